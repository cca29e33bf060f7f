// TensorFlow Serving's REST interface: status, metadata and predict, for image_bytes -> classes, probabilities.
#ifndef TENSORFLOW_SERVING_MODEL_SERVERS_REST_H_
#define TENSORFLOW_SERVING_MODEL_SERVERS_REST_H_

#include "tensorflow_serving/model_servers/versions.h"

namespace standin {

// Listens on all addresses and answers until the process ends. Returns false if the port cannot be had.
// announce is called once the port is open.
bool ServeRest(const Versions& versions, int port, int threads, void (*announce)(int port));

}  // namespace standin

#endif  // TENSORFLOW_SERVING_MODEL_SERVERS_REST_H_
