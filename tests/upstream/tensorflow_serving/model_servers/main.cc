// A stand-in for TensorFlow Serving's model server: the same command line, log lines and REST answers, for
// one model that is made by tests/upstream/make_model.py. See tests/upstream/README.md.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <iostream>
#include <string>
#include <thread>

#include "tensorflow_serving/model_servers/flags.h"
#include "tensorflow_serving/model_servers/log.h"
#include "tensorflow_serving/model_servers/rest.h"
#include "tensorflow_serving/model_servers/versions.h"

namespace {

using standin::Log;

constexpr char kServer[] = "tensorflow_serving/model_servers/server.cc";

// The gRPC port is open, as a person who looks at it would find it, but speaks no gRPC: who connects is
// sent away. Like gRPC's own, it can be shared with another server without anybody noticing.
void KeepGrpcPort(int port) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(listener, 16) != 0) {
    Log('E', std::string(kServer) + ":437", "Failed to listen on port " + std::to_string(port));
    close(listener);
    return;
  }
  std::thread([listener] {
    while (true) {
      const int connection = accept(listener, nullptr, nullptr);
      if (connection >= 0) close(connection);
    }
  }).detach();
}

void AnnounceRest(int port) {
  Log('I', std::string(kServer) + ":465", "Exporting HTTP/REST API at:localhost:" + std::to_string(port) + " ...");
  std::cerr << "[evhttp_server.cc : 250] NET_LOG: Entering the event loop ..." << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  standin::Flags flags;
  if (!standin::ParseFlags(argc, argv, &flags)) return -1;
  if (flags.version) {
    std::cout << "TensorFlow ModelServer: 2.20.0-stand-in" << std::endl;
    return 0;
  }
  if (flags.model_base_path.empty()) {
    std::cerr << "Failed to start server. Error: INVALID_ARGUMENT: Both server_options.model_base_path and "
                 "server_options.model_config_file are empty!"
              << std::endl;
    return -1;
  }
  Log('I', std::string(kServer) + ":77",
      "Building single TensorFlow model file config:  model_name: " + flags.model_name +
          " model_base_path: " + flags.model_base_path);
  Log('I', "tensorflow_serving/model_servers/server_core.cc:471", "Adding/updating models.");
  Log('I', "tensorflow_serving/model_servers/server_core.cc:600", " (Re-)adding model: " + flags.model_name);

  standin::Versions versions(flags);
  std::thread([&versions] { versions.Poll(); }).detach();
  if (!versions.WaitForFirst()) {
    std::cerr << "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: {{name: "
              << flags.model_name << " version: " << versions.States().rbegin()->first << "} due to error: "
              << versions.States().rbegin()->second.error_message << ", }" << std::endl;
    return -1;
  }
  Log('I', "tensorflow_serving/model_servers/server_core.cc:502", "Finished adding/updating models");
  KeepGrpcPort(flags.port);
  Log('I', std::string(kServer) + ":444",
      "Running gRPC ModelServer at 0.0.0.0:" + std::to_string(flags.port) + " ...");
  if (flags.rest_api_port != 0 &&
      !standin::ServeRest(versions, flags.rest_api_port, flags.rest_api_num_threads, AnnounceRest)) {
    Log('E', std::string(kServer) + ":470",
        "Failed to start HTTP Server at localhost:" + std::to_string(flags.rest_api_port));
  }
  while (true) pause();  // as upstream: a REST port that cannot be had ends nothing
}
