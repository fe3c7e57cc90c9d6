#include "framework/backend/cuda/launch.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace lexring::cuda {
namespace {

/// As C++ writes it, without our namespaces.
std::string readable(std::string_view name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> demangled(
      abi::__cxa_demangle(std::string(name).c_str(), nullptr, nullptr, &status), &std::free);
  std::string text = status == 0 ? demangled.get() : std::string(name);
  for (const std::string_view ours : {"(anonymous namespace)::", "lexring::cuda::", "lexring::"})
    for (std::size_t at = text.find(ours); at != std::string::npos; at = text.find(ours, at))
      text.erase(at, ours.size());
  return text;
}

/// What comes before a function's parameters: its arguments say more.
std::string function_name(std::string_view mangled) {
  std::string name = readable(mangled);
  if (name.starts_with("void ")) name.erase(0, 5);
  if (!name.starts_with('(')) name.erase(std::min(name.find('('), name.size()));  // else a type, all that is known
  return name;
}

template <class T>
bool put_number(const Argument& argument, std::string& text) {
  if (argument.type != typeid(T)) return false;
  T value;
  std::memcpy(&value, argument.value, sizeof(T));
  text = fmt::format("{}", value);
  return true;
}

std::string words(const Argument& argument) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < argument.bytes; at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, static_cast<const std::byte*>(argument.value) + at, std::min(sizeof(word), argument.bytes - at));
    words.push_back(fmt::format("{:#x}", word));
  }
  return fmt::format("{} {{{}}}", readable(argument.type.name()), fmt::join(words, " "));
}

std::string text_of(const Argument& argument) {
  std::string text;
  if (!put_number<bool>(argument, text) && !put_number<int>(argument, text) && !put_number<unsigned>(argument, text) &&
      !put_number<std::int64_t>(argument, text) && !put_number<std::uint64_t>(argument, text) &&
      !put_number<float>(argument, text) && !put_number<double>(argument, text))
    text = words(argument);
  return text;
}

}  // namespace

std::string describe(const Launch& launch) {
  std::vector<std::string> arguments;
  for (const Argument& argument : launch.arguments) arguments.push_back(text_of(argument));
  return fmt::format("kernel {} on {} x {} x {} blocks of {} threads with {} bytes of shared memory; arguments: {}",
                     function_name(launch.kernel), launch.blocks[0], launch.blocks[1], launch.blocks[2], launch.threads,
                     launch.shared_bytes, fmt::join(arguments, ", "));
}

}  // namespace lexring::cuda
