// What this binary was compiled for, beside what the CPU has.
#ifndef TENSORFLOW_SERVING_MODEL_SERVERS_CPU_FEATURE_GUARD_H_
#define TENSORFLOW_SERVING_MODEL_SERVERS_CPU_FEATURE_GUARD_H_

namespace standin {

// Logs, once, the instruction sets that the CPU has and this binary does not use; nothing if there are none.
void InfoAboutUnusedCPUFeatures();

}  // namespace standin

#endif  // TENSORFLOW_SERVING_MODEL_SERVERS_CPU_FEATURE_GUARD_H_
