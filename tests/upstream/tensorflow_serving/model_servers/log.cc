#include "tensorflow_serving/model_servers/log.h"

#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>

namespace standin {

void Log(char severity, const std::string& place, const std::string& message) {
  timeval now{};
  gettimeofday(&now, nullptr);
  tm calendar{};
  localtime_r(&now.tv_sec, &calendar);
  char seconds[32];
  std::strftime(seconds, sizeof seconds, "%Y-%m-%d %H:%M:%S", &calendar);
  char time[48];
  std::snprintf(time, sizeof time, "%s.%06ld", seconds, static_cast<long>(now.tv_usec));
  const std::string line = std::string(time) + ": " + severity + " " + place + "] " + message + "\n";
  // One write, so that lines of several threads do not mix.
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;
}

}  // namespace standin
