#include "tensorflow_serving/model_servers/flags.h"

#include <cstdlib>
#include <cstring>
#include <iostream>

namespace standin {
namespace {

// Taken, and without meaning to the stand-in (TensorFlow Serving 2.20, model_servers/main.cc).
constexpr const char* kIgnored[] = {
    "allow_version_labels_for_unavailable_models",
    "batching_parameters_file",
    "enable_batching",
    "enable_cors_support",
    "enable_model_warmup",
    "enable_per_model_batching_parameters",
    "enable_profiler",
    "enable_serialization_as_tensor_content",
    "enable_signature_method_name_check",
    "flush_filesystem_caches",
    "grpc_channel_arguments",
    "grpc_max_threads",
    "grpc_socket_path",
    "http_thread_pool_size",
    "mixed_precision",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "monitoring_config_file",
    "num_load_threads",
    "num_request_iterations_for_warmup",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
    "platform_config_file",
    "prefer_tflite_model",
    "remove_unused_fields_from_bundle_metagraph",
    "rest_api_enable_cors_support",
    "rest_api_timeout_in_ms",
    "saved_model_tags",
    "skip_initialize_tpu",
    "ssl_config_file",
    "tensorflow_inter_op_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_session_config_file",
    "tensorflow_session_parallelism",
    "thread_pool_factory_config_file",
    "total_model_memory_limit_bytes",
    "use_alts_credentials",
    "use_tflite_model",
};

// Whether argument is "--name=VALUE"; then value is VALUE.
bool Match(const char* argument, const char* name, std::string* value) {
  const std::size_t length = std::strlen(name);
  if (std::strncmp(argument, "--", 2) != 0 || std::strncmp(argument + 2, name, length) != 0) return false;
  if (argument[2 + length] != '=') return false;
  *value = argument + 2 + length + 1;
  return true;
}

template <typename Number>
bool Interpret(const char* name, const std::string& value, Number* number) {
  char* end = nullptr;
  const long parsed = std::strtol(value.c_str(), &end, 10);
  if (value.empty() || *end != '\0') {
    std::cerr << "Couldn't interpret value " << value << " for flag " << name << "." << std::endl;
    return false;
  }
  *number = static_cast<Number>(parsed);
  return true;
}

void Usage(const char* program) {
  std::cout << "usage: " << program << "\nFlags:\n"
            << "\t--port=8500                      \tint32\tTCP port to listen on for gRPC API.\n"
            << "\t--rest_api_port=0                \tint32\tPort to listen on for HTTP/REST API.\n"
            << "\t--model_name=\"default\"           \tstring\tname of model\n"
            << "\t--model_base_path=\"\"             \tstring\tpath to export\n"
            << "\t--file_system_poll_wait_seconds=1\tint32\tInterval in seconds between polls.\n"
            << "\t--max_num_load_retries=5         \tint32\tretries of loading a model.\n";
}

}  // namespace

bool ParseFlags(int argc, char** argv, Flags* flags) {
  const char* unknown = nullptr;
  for (int i = 1; i < argc; ++i) {
    const char* argument = argv[i];
    std::string value;
    bool good = true;
    if (Match(argument, "port", &value)) {
      good = Interpret("port", value, &flags->port);
    } else if (Match(argument, "rest_api_port", &value)) {
      good = Interpret("rest_api_port", value, &flags->rest_api_port);
    } else if (Match(argument, "rest_api_num_threads", &value)) {
      good = Interpret("rest_api_num_threads", value, &flags->rest_api_num_threads);
    } else if (Match(argument, "file_system_poll_wait_seconds", &value)) {
      good = Interpret("file_system_poll_wait_seconds", value, &flags->file_system_poll_wait_seconds);
    } else if (Match(argument, "max_num_load_retries", &value)) {
      good = Interpret("max_num_load_retries", value, &flags->max_num_load_retries);
    } else if (Match(argument, "load_retry_interval_micros", &value)) {
      good = Interpret("load_retry_interval_micros", value, &flags->load_retry_interval_micros);
    } else if (Match(argument, "model_name", &value)) {
      flags->model_name = value;
    } else if (Match(argument, "model_base_path", &value)) {
      flags->model_base_path = value;
    } else if (std::strcmp(argument, "--version") == 0 || std::strcmp(argument, "--version=true") == 0) {
      flags->version = true;
    } else {
      bool known = false;
      for (const char* name : kIgnored) {
        known = known || Match(argument, name, &value) || std::string("--") + name == argument;
      }
      if (!known && unknown == nullptr) unknown = argument;
    }
    if (!good) {
      Usage(argv[0]);
      return false;
    }
  }
  if (unknown != nullptr) {
    std::cout << "unknown argument: " << unknown << "\n";
    Usage(argv[0]);
    return false;
  }
  return true;
}

}  // namespace standin
