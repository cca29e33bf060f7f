// The command line, with the names, forms and failures of TensorFlow Serving's own.
#ifndef TENSORFLOW_SERVING_MODEL_SERVERS_FLAGS_H_
#define TENSORFLOW_SERVING_MODEL_SERVERS_FLAGS_H_

#include <string>

namespace standin {

struct Flags {
  int port = 8500;
  int rest_api_port = 0;  // 0: no REST server
  int rest_api_num_threads = 16;
  std::string model_name = "default";
  std::string model_base_path;
  int file_system_poll_wait_seconds = 1;  // 0: look once; less than 0: never
  int max_num_load_retries = 5;
  long load_retry_interval_micros = 60 * 1000 * 1000;
  bool version = false;
};

// Reads the command line into flags. Returns false, with usage and reason printed as TensorFlow does, for an
// argument that is unknown or has a bad value. Flags of TensorFlow Serving that mean nothing here are taken.
bool ParseFlags(int argc, char** argv, Flags* flags);

}  // namespace standin

#endif  // TENSORFLOW_SERVING_MODEL_SERVERS_FLAGS_H_
