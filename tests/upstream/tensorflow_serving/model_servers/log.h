// Log lines as TensorFlow writes them: "TIME: I file:line] message", on standard error.
#ifndef TENSORFLOW_SERVING_MODEL_SERVERS_LOG_H_
#define TENSORFLOW_SERVING_MODEL_SERVERS_LOG_H_

#include <string>

namespace standin {

// severity: 'I', 'W' or 'E'. place: the file and line that TensorFlow Serving says the same from.
void Log(char severity, const std::string& place, const std::string& message);

}  // namespace standin

#endif  // TENSORFLOW_SERVING_MODEL_SERVERS_LOG_H_
