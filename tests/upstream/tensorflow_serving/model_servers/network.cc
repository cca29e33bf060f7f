#include "tensorflow_serving/model_servers/network.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <stdexcept>

namespace standin {
namespace {

constexpr char kMarker[] = "tensorflow-serving-suite stand-in model 1\n";

// One register of numbers, as wide as the compiler may use.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kVector = kVectorBytes / sizeof(float);
using Vector = float __attribute__((vector_size(kVectorBytes), aligned(alignof(float)), may_alias));

// out[rows, columns] = max(0, in[rows, inner] * weights[inner, columns])
//
// A block of sums stays in registers while the inner dimension runs. Multiply and add becomes one
// instruction where the CPU that is compiled for has one. No sum is reordered, so all builds agree but
// for rounding.
template <int kRows, int kInner, int kColumns>
void MultiplyAndRectify(const float* in, const float* weights, float* out) {
  // Rows and registers across at once: enough sums to keep the arithmetic units busy.
  constexpr int kBlock = 8;
  constexpr int kAcross = 2;
  static_assert(kRows % kBlock == 0 && kColumns % (kAcross * kVector) == 0, "no remainders are handled");
  for (int column = 0; column < kColumns; column += kAcross * kVector) {
    for (int row = 0; row < kRows; row += kBlock) {
      Vector sums[kBlock][kAcross] = {};
      for (int i = 0; i < kInner; ++i) {
        Vector line[kAcross];
        for (int a = 0; a < kAcross; ++a) {
          line[a] = *reinterpret_cast<const Vector*>(weights + i * kColumns + column + a * kVector);
        }
#pragma GCC unroll 8
        for (int r = 0; r < kBlock; ++r) {
          const float x = in[(row + r) * kInner + i];
          for (int a = 0; a < kAcross; ++a) sums[r][a] += x * line[a];
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kBlock; ++r) {
        for (int a = 0; a < kAcross; ++a) {
          *reinterpret_cast<Vector*>(out + (row + r) * kColumns + column + a * kVector) =
              sums[r][a] > 0 ? sums[r][a] : Vector{};
        }
      }
    }
  }
}

std::vector<float> Read(std::ifstream& file, std::size_t count) {
  std::vector<float> values(count);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(float)));
  return values;
}

// The bytes as kWindows rows of kWidth numbers around zero. A short photo is read in a circle.
std::vector<float> Windows(const std::string& photo) {
  std::vector<float> rows(static_cast<std::size_t>(kWindows) * kWidth);
  const std::size_t room = photo.size() > kWidth ? photo.size() - kWidth : 0;
  for (int w = 0; w < kWindows; ++w) {
    const std::size_t start = room * w / (kWindows - 1);
    for (int i = 0; i < kWidth; ++i) {
      const auto byte = static_cast<unsigned char>(photo[(start + i) % photo.size()]);
      rows[static_cast<std::size_t>(w) * kWidth + i] = (static_cast<float>(byte) - 127.5f) / 127.5f;
    }
  }
  return rows;
}

}  // namespace

Network::Network(const std::string& version_folder) {
  std::ifstream marker(version_folder + "/saved_model.pb", std::ios::binary);
  if (!marker) {
    throw std::runtime_error(
        "NOT_FOUND: Could not find SavedModel .pb or .pbtxt at supplied export directory path: " + version_folder);
  }
  std::string text(sizeof(kMarker) - 1, '\0');
  marker.read(&text[0], static_cast<std::streamsize>(text.size()));
  if (text != kMarker) {
    throw std::runtime_error("DATA_LOSS: Can't parse " + version_folder + "/saved_model.pb as binary proto");
  }
  const std::string weights = version_folder + "/variables/weights.bin";
  std::ifstream file(weights, std::ios::binary);
  first_ = Read(file, static_cast<std::size_t>(kWidth) * kHidden);
  second_ = Read(file, static_cast<std::size_t>(kHidden) * kWidth);
  head_ = Read(file, static_cast<std::size_t>(kWidth) * kClasses);
  bias_ = Read(file, kClasses);
  if (!file || file.peek() != std::ifstream::traits_type::eof()) {
    throw std::runtime_error("DATA_LOSS: " + weights + " has not the size that the network needs");
  }
}

std::vector<float> Network::Probabilities(const std::string& photo) const {
  if (photo.empty()) throw std::invalid_argument("the photo is empty");
  const std::vector<float> windows = Windows(photo);
  std::vector<float> hidden(static_cast<std::size_t>(kWindows) * kHidden);
  std::vector<float> features(static_cast<std::size_t>(kWindows) * kWidth);
  MultiplyAndRectify<kWindows, kWidth, kHidden>(windows.data(), first_.data(), hidden.data());
  MultiplyAndRectify<kWindows, kHidden, kWidth>(hidden.data(), second_.data(), features.data());

  std::vector<float> pooled(kWidth, 0.0f);  // the largest value over all windows
  for (int w = 0; w < kWindows; ++w) {
    for (int i = 0; i < kWidth; ++i) {
      pooled[i] = std::max(pooled[i], features[static_cast<std::size_t>(w) * kWidth + i]);
    }
  }
  std::vector<float> scores = bias_;
  for (int i = 0; i < kWidth; ++i) {
    const float* line = head_.data() + static_cast<std::size_t>(i) * kClasses;
    for (int c = 0; c < kClasses; ++c) scores[c] += pooled[i] * line[c];
  }
  const float largest = *std::max_element(scores.begin(), scores.end());
  float sum = 0.0f;
  for (float& score : scores) sum += score = std::exp(score - largest);
  for (float& score : scores) score /= sum;
  return scores;
}

}  // namespace standin
