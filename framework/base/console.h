/// What a program says: results on standard output, words for people on standard error.
///
/// Words never end work: a full disk, a closed pipe or a closed standard error loses them and nothing else. A result
/// that could not be written is an error. Both write at once and keep nothing back; texts of several threads are not
/// mixed within one call.
#pragma once

#include <string_view>
#include <utility>

#include <fmt/core.h>

#include "framework/base/error.h"

namespace lexring {

/// Nobody reads standard output any more (`| head`): the command ends quietly.
class OutputClosed : public Error {
 public:
  OutputClosed() : Error("nobody reads standard output any more") {}
};

/// Opens what this process was started without of standard input, output and error, so that no file of ours gets their
/// numbers, and with them what libraries print. What is then written to standard output fails. At the start of main.
void open_standard_streams();

/// Standard error, as far as it takes it.
void say_text(std::string_view text);
template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  say_text(fmt::format(format, std::forward<Args>(args)...));
}

/// Standard output. Throws OutputClosed, or Error with the reason. SIGPIPE must be blocked or ignored.
void print_result_text(std::string_view text);
template <class... Args>
void print_result(fmt::format_string<Args...> format, Args&&... args) {
  print_result_text(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace lexring
