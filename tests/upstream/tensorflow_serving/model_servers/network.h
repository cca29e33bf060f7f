// The arithmetic: a small network that reads the bytes of a photo and gives probabilities of classes.
#ifndef TENSORFLOW_SERVING_MODEL_SERVERS_NETWORK_H_
#define TENSORFLOW_SERVING_MODEL_SERVERS_NETWORK_H_

#include <string>
#include <vector>

namespace standin {

// tests/upstream/make_model.py has the same numbers and, in numpy, the same arithmetic.
constexpr int kWindows = 512;  // windows that the bytes are seen through, at equal distances
constexpr int kWidth = 256;    // bytes in each
constexpr int kHidden = 1024;
constexpr int kClasses = 1001;

class Network {
 public:
  // Reads VERSION_FOLDER/variables/weights.bin: float32, little endian, row-major, one after the other:
  // first [kWidth, kHidden], second [kHidden, kWidth], head [kWidth, kClasses], bias [kClasses].
  // Throws std::runtime_error with what is wrong.
  explicit Network(const std::string& version_folder);

  // One probability for each class. An empty photo throws std::invalid_argument.
  std::vector<float> Probabilities(const std::string& photo) const;

 private:
  std::vector<float> first_, second_, head_, bias_;
};

}  // namespace standin

#endif  // TENSORFLOW_SERVING_MODEL_SERVERS_NETWORK_H_
