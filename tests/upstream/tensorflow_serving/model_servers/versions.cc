#include "tensorflow_serving/model_servers/versions.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "tensorflow_serving/model_servers/cpu_feature_guard.h"
#include "tensorflow_serving/model_servers/log.h"

namespace standin {
namespace {

constexpr char kSource[] =
    "tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc";

std::string Named(const std::string& name, std::int64_t version) {
  return "{name: " + name + " version: " + std::to_string(version) + "}";
}

// The number that a folder's name is, or -1.
std::int64_t Number(const std::string& folder) {
  const bool digits = !folder.empty() && folder.size() <= 18 &&
                      std::all_of(folder.begin(), folder.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits ? std::stoll(folder) : -1;
}

}  // namespace

void Versions::Poll() {
  if (flags_.file_system_poll_wait_seconds < 0) return;
  while (true) {
    const std::int64_t newest = Newest();
    bool fresh = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      fresh = newest >= 0 && states_.count(newest) == 0;
    }
    if (fresh) Load(newest);
    if (flags_.file_system_poll_wait_seconds == 0) return;
    std::this_thread::sleep_for(std::chrono::seconds(flags_.file_system_poll_wait_seconds));
  }
}

std::int64_t Versions::Newest() const {
  const std::string& base = flags_.model_base_path;
  std::error_code error;
  std::int64_t newest = -1;
  std::filesystem::directory_iterator entries(base, error);
  if (error) {
    Log('E', std::string(kSource) + ":353",
        "FileSystemStoragePathSource encountered a filesystem access error: Could not find base path " + base +
            " for servable " + name() + " with error NOT_FOUND: " + base + " not found");
    return -1;
  }
  for (const auto& entry : entries) {
    if (entry.is_directory(error)) newest = std::max(newest, Number(entry.path().filename().string()));
  }
  if (newest < 0) {
    Log('W', std::string(kSource) + ":268",
        "No versions of servable " + name() + " found under base path " + base +
            ". Did you forget to name your leaf directory as a number (eg. '/1/')?");
  }
  return newest;
}

void Versions::Load(std::int64_t version) {
  const std::string named = Named(name(), version);
  const std::string folder = flags_.model_base_path + "/" + std::to_string(version);
  Set(version, {"LOADING", "OK", ""});
  Log('I', "tensorflow_serving/core/loader_harness.cc:71", "Approving load for servable version " + named);
  Log('I', "tensorflow_serving/core/loader_harness.cc:79", "Loading servable version " + named);
  Log('I', "external/org_tensorflow/tensorflow/cc/saved_model/reader.cc:83", "Reading SavedModel from: " + folder);
  InfoAboutUnusedCPUFeatures();
  for (int attempt = 0;; ++attempt) {
    try {
      auto servable = std::make_shared<const Servable>(Servable{version, Network(folder)});
      Log('I', "tensorflow_serving/core/loader_harness.cc:105", "Successfully loaded servable version " + named);
      std::shared_ptr<const Servable> old;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        old.swap(current_);
        current_ = servable;
        states_[version] = {"AVAILABLE", "OK", ""};
        if (old) states_[old->version] = {"END", "OK", ""};
      }
      if (old) {
        Log('I', "tensorflow_serving/core/loader_harness.cc:153",
            "Unloading servable version " + Named(name(), old->version));
      }
      break;
    } catch (const std::runtime_error& error) {
      const std::string message = error.what();
      if (attempt < flags_.max_num_load_retries) {
        Log('W', "tensorflow_serving/util/retrier.cc:46",
            "Loading servable: " + named + " failed on attempt " + std::to_string(attempt + 1) + ", retrying: " +
                message);
        std::this_thread::sleep_for(std::chrono::microseconds(flags_.load_retry_interval_micros));
        continue;
      }
      Log('E', "tensorflow_serving/util/retrier.cc:37", "Loading servable: " + named + " failed: " + message);
      Set(version, {"END", message.substr(0, message.find(':')), message.substr(message.find(':') + 2)});
      break;
    }
  }
  changed_.notify_all();
}

void Versions::Set(std::int64_t version, VersionState state) {
  const std::lock_guard<std::mutex> lock(mutex_);
  failed_ = state.error_code != "OK";
  states_[version] = std::move(state);
}

bool Versions::WaitForFirst() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return current_ != nullptr || failed_; });
  return current_ != nullptr;
}

std::shared_ptr<const Servable> Versions::Find(std::int64_t version) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return version < 0 || (current_ && current_->version == version) ? current_ : nullptr;
}

std::map<std::int64_t, VersionState> Versions::States() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return states_;
}

}  // namespace standin
