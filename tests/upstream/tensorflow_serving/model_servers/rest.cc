#include "tensorflow_serving/model_servers/rest.h"

#include <httplib.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace standin {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kLargestBody = 256 << 20;  // bytes
constexpr char kInput[] = "image_bytes";

struct Error : std::runtime_error {
  Error(int http_status, const std::string& message) : std::runtime_error(message), status(http_status) {}
  int status;
};

std::string ErrorDocument(const std::string& message) {
  // Messages can quote what the client sent, which need not be UTF-8.
  return Json{{"error", message}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string DecodeBase64(const std::string& text) {
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  unsigned bits = 0;
  int count = 0;
  for (const char c : text) {
    int value = 0;
    if (c >= 'A' && c <= 'Z') {
      value = c - 'A';
    } else if (c >= 'a' && c <= 'z') {
      value = c - 'a' + 26;
    } else if (c >= '0' && c <= '9') {
      value = c - '0' + 52;
    } else if (c == '+') {
      value = 62;
    } else if (c == '/') {
      value = 63;
    } else if (c == '=') {
      break;
    } else {
      throw Error(400, "Unable to base64 decode");
    }
    bits = bits << 6 | static_cast<unsigned>(value);
    if (++count % 4 != 1) bytes += static_cast<char>(bits >> (2 * (3 - (count - 1) % 4)) & 0xff);
  }
  return bytes;
}

// The bytes of one photo: {"b64": "..."}, or a plain string.
std::string Photo(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.size() == 1 && value.contains("b64") && value["b64"].is_string()) {
    return DecodeBase64(value["b64"].get_ref<const std::string&>());
  }
  throw Error(400, "JSON Value: " + value.dump().substr(0, 100) + " not formatted correctly for base64 data");
}

// What stands under the input's name, or the value itself where the name is left out.
const Json& Input(const Json& value) {
  if (!value.is_object() || value.contains("b64")) return value;
  if (value.size() != 1 || !value.contains(kInput)) {
    throw Error(400, "Failed to process element: 0 of 'instances' list. JSON object: does not have named input: " +
                         std::string(kInput));
  }
  return value[kInput];
}

std::string Predict(const Network& network, const std::string& body) {
  const Json request = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (request.is_discarded()) throw Error(400, "JSON Parse error: Invalid value");
  if (!request.is_object()) throw Error(400, "Request is not a JSON object");
  const std::string signature = request.value("signature_name", "serving_default");
  if (signature != "serving_default") {
    throw Error(400, "Serving signature name: \"" + signature + "\" not found in signature def");
  }
  const bool rows = request.contains("instances");
  if (rows == request.contains("inputs")) {
    throw Error(400, rows ? "Not formatted correctly: use either 'instances' or 'inputs', not both"
                          : "Missing 'inputs' or 'instances' key");
  }
  std::vector<std::string> photos;
  if (rows) {
    if (!request["instances"].is_array() || request["instances"].empty()) {
      throw Error(400, "Excepting 'instances' to be an list/array");
    }
    for (const Json& instance : request["instances"]) photos.push_back(Photo(Input(instance)));
  } else {
    const Json& inputs = Input(request["inputs"]);
    if (!inputs.is_array() || inputs.empty()) throw Error(400, "'inputs' must be a list of photos");
    for (const Json& photo : inputs) photos.push_back(Photo(photo));
  }
  Json classes = Json::array();
  Json probabilities = Json::array();
  for (const std::string& photo : photos) {
    if (photo.empty()) throw Error(400, "Expected image (JPEG, PNG, or GIF), got empty file");
    const std::vector<float> scores = network.Probabilities(photo);
    classes.push_back(std::max_element(scores.begin(), scores.end()) - scores.begin());
    probabilities.push_back(scores);
  }
  if (!rows) return Json{{"outputs", {{"classes", classes}, {"probabilities", probabilities}}}}.dump();
  Json predictions = Json::array();
  for (std::size_t i = 0; i < photos.size(); ++i) {
    predictions.push_back({{"classes", classes[i]}, {"probabilities", std::move(probabilities[i])}});
  }
  return Json{{"predictions", std::move(predictions)}}.dump();
}

Json Tensor(const std::string& type, const std::vector<std::string>& sizes, const std::string& name) {
  Json dimensions = Json::array();
  for (const std::string& size : sizes) dimensions.push_back({{"size", size}, {"name", ""}});
  return {{"dtype", type}, {"tensor_shape", {{"dim", dimensions}, {"unknown_rank", false}}}, {"name", name}};
}

std::string Metadata(const std::string& model, std::int64_t version) {
  const Json definition = {
      {"inputs", {{kInput, Tensor("DT_STRING", {"-1"}, "input_tensor:0")}}},
      {"outputs",
       {{"classes", Tensor("DT_INT64", {"-1"}, "ArgMax:0")},
        {"probabilities", Tensor("DT_FLOAT", {"-1", std::to_string(kClasses)}, "softmax_tensor:0")}}},
      {"method_name", "tensorflow/serving/predict"},
      {"defaults", Json::object()},
  };
  return Json{
      {"model_spec", {{"name", model}, {"signature_name", ""}, {"version", std::to_string(version)}}},
      {"metadata", {{"signature_def", {{"signature_def", {{"serving_default", definition}}}}}}},
  }
      .dump(1);
}

std::string Status(const Versions& versions, std::int64_t version) {
  Json list = Json::array();
  const auto states = versions.States();
  for (auto one = states.rbegin(); one != states.rend(); ++one) {
    if (version >= 0 && one->first != version) continue;
    list.push_back({
        {"version", std::to_string(one->first)},
        {"state", one->second.state},
        {"status", {{"error_code", one->second.error_code}, {"error_message", one->second.error_message}}},
    });
  }
  if (list.empty()) {
    throw Error(404, "Could not find version " + std::to_string(version) + " of model " + versions.name());
  }
  return Json{{"model_version_status", list}}.dump(1);
}

// Answers one request. GET of a status or metadata, or POST of a predict.
std::string Answer(const Versions& versions, const httplib::Request& request, const std::string& body) {
  const std::string model = request.matches[1];
  const std::string number = request.matches[2];
  const std::string rest = request.matches[3];
  if (number.size() > 18) throw Error(400, "Failed to convert version: " + number + " to numeric.");
  const std::int64_t version = number.empty() ? -1 : std::stoll(number);
  const std::string wanted = version < 0 ? "latest" : std::to_string(version);
  if (model != versions.name()) throw Error(404, "Servable not found for request: Latest(" + model + ")");
  if (request.method == "GET" && rest.empty()) return Status(versions, version);
  const auto servable = versions.Find(version);
  if (!servable) throw Error(404, "Servable not found for request: Specific(" + model + ", " + wanted + ")");
  if (request.method == "GET" && rest == "/metadata") return Metadata(model, servable->version);
  if (request.method == "POST" && rest == ":predict") return Predict(servable->network, body);
  throw Error(400, "Malformed request: " + request.method + " " + request.path);
}

}  // namespace

bool ServeRest(const Versions& versions, int port, int threads, void (*announce)(int port)) {
  httplib::Server server;
  server.new_task_queue = [threads] { return new httplib::ThreadPool(threads); };
  server.set_tcp_nodelay(true);
  server.set_keep_alive_max_count(1 << 30);
  server.set_keep_alive_timeout(75);  // seconds
  server.set_payload_max_length(kLargestBody);
  const auto respond = [&versions](const httplib::Request& request, const std::string& body,
                                   httplib::Response& response) {
    try {
      response.set_content(Answer(versions, request, body), "application/json");
      return;
    } catch (const Error& error) {
      response.status = error.status;
      response.set_content(ErrorDocument(error.what()), "application/json");
    } catch (const std::exception& error) {
      response.status = 400;
      response.set_content(ErrorDocument(error.what()), "application/json");
    }
  };
  const char pattern[] = R"(/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata|:predict|:classify|:regress)?)";
  server.Get(pattern, [&respond](const httplib::Request& request, httplib::Response& response) {
    respond(request, "", response);
  });
  // With a reader of its own: curl calls everything a form, and the library cuts forms off at 8 KiB.
  server.Post(pattern, [&respond](const httplib::Request& request, httplib::Response& response,
                                  const httplib::ContentReader& read) {
    std::string body;
    read([&body](const char* data, std::size_t size) {
      body.append(data, size);
      return true;
    });
    respond(request, body, response);
  });
  server.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty()) return;
    response.set_content(ErrorDocument("Malformed request: " + request.method + " " + request.path),
                         "application/json");
  });
  if (!server.bind_to_port("0.0.0.0", port)) return false;
  announce(port);
  return server.listen_after_bind();
}

}  // namespace standin
