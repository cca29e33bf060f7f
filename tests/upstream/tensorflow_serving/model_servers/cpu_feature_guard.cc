#include "tensorflow_serving/model_servers/cpu_feature_guard.h"

#include <string>

#include "tensorflow_serving/model_servers/log.h"

namespace standin {

void InfoAboutUnusedCPUFeatures() {
  static bool said = false;
  if (said) return;
  said = true;
  std::string missing;
  // The sets that TensorFlow looks at, in its order (core/platform/cpu_feature_guard.cc).
#ifndef __SSE3__
  if (__builtin_cpu_supports("sse3")) missing += " SSE3";
#endif
#ifndef __SSE4_1__
  if (__builtin_cpu_supports("sse4.1")) missing += " SSE4.1";
#endif
#ifndef __SSE4_2__
  if (__builtin_cpu_supports("sse4.2")) missing += " SSE4.2";
#endif
#ifndef __AVX__
  if (__builtin_cpu_supports("avx")) missing += " AVX";
#endif
#ifndef __AVX2__
  if (__builtin_cpu_supports("avx2")) missing += " AVX2";
#endif
#ifndef __AVX512F__
  if (__builtin_cpu_supports("avx512f")) missing += " AVX512F";
#endif
#ifndef __AVX512VNNI__
  if (__builtin_cpu_supports("avx512vnni")) missing += " AVX512_VNNI";
#endif
#ifndef __AVX512BF16__
  if (__builtin_cpu_supports("avx512bf16")) missing += " AVX512_BF16";
#endif
#ifndef __FMA__
  if (__builtin_cpu_supports("fma")) missing += " FMA";
#endif
  if (missing.empty()) return;
  Log('I', "external/org_tensorflow/tensorflow/core/platform/cpu_feature_guard.cc:210",
      "This TensorFlow binary is optimized to use available CPU instructions in performance-critical "
      "operations.\nTo enable the following instructions:" +
          missing + ", in other operations, rebuild TensorFlow with the appropriate compiler flags.");
}

}  // namespace standin
