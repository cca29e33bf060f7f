// The versions of the one model: found on disk, loaded, handed out, and reported on.
#ifndef TENSORFLOW_SERVING_MODEL_SERVERS_VERSIONS_H_
#define TENSORFLOW_SERVING_MODEL_SERVERS_VERSIONS_H_

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "tensorflow_serving/model_servers/flags.h"
#include "tensorflow_serving/model_servers/network.h"

namespace standin {

struct VersionState {
  std::string state;  // LOADING, AVAILABLE, END
  std::string error_code;  // OK, or why it did not load
  std::string error_message;
};

struct Servable {
  std::int64_t version;
  Network network;
};

// Serves the newest version, and looks for another as often as the flags say.
class Versions {
 public:
  explicit Versions(const Flags& flags) : flags_(flags) {}

  // Looks at the base path until the process ends. Runs in a thread of its own.
  void Poll();

  // Waits for the first version to be tried. Returns whether it loaded.
  bool WaitForFirst();

  // The version that is served; the one with that number if one is given (-1: any). Null if there is none.
  std::shared_ptr<const Servable> Find(std::int64_t version) const;

  // Every version ever seen, by number.
  std::map<std::int64_t, VersionState> States() const;

  const std::string& name() const { return flags_.model_name; }

 private:
  std::int64_t Newest() const;
  void Load(std::int64_t version);
  void Set(std::int64_t version, VersionState state);

  const Flags flags_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const Servable> current_;
  std::map<std::int64_t, VersionState> states_;
  bool failed_ = false;
};

}  // namespace standin

#endif  // TENSORFLOW_SERVING_MODEL_SERVERS_VERSIONS_H_
