/// Errors that a person can act on: the problem, why it is one, what to do.
///
/// Everything that goes wrong throws Error (or UsageError) with one complete message; main() prints it with the rank in
/// front and ends every rank. Nothing else in the project calls exit, abort or assert.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/core.h>

namespace lexring {

/// A run cannot go on (exit code 1).
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The command line or a configuration file asks for something impossible (exit code 2).
class UsageError : public Error {
 public:
  using Error::Error;
};

/// Throws Error with a formatted message.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

/// Throws Error unless `holds`. For conditions that outside input or a caller's mistake can break.
template <class... Args>
void require(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) fail(format, std::forward<Args>(args)...);
}

/// Throws UsageError unless `holds`.
template <class... Args>
void require_usage(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace lexring
