/// How a command ends, told by its exit code, and the errors that have one of their own. What each of them asks of a
/// script is in jobs/README.md.
#pragma once

#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "framework/base/error.h"

namespace lexring::exit_code {

inline constexpr int finished = 0;
inline constexpr int error = 1;
inline constexpr int usage = 2;             ///< a mistake in the command: UsageError
inline constexpr int numbers = 3;           ///< NumbersError
inline constexpr int machine = 4;           ///< MachineError
inline constexpr int to_be_continued = 75;  ///< stopped by a signal, with a checkpoint: EX_TEMPFAIL of sysexits.h

}  // namespace lexring::exit_code

namespace lexring {

/// Numbers are wrong for good: it is the data, the model or the learning rate, and starting again does not help.
class NumbersError : public Error {
 public:
  using Error::Error;
};

/// A machine computes wrong numbers: starting again without it helps.
class MachineError : public Error {
 public:
  struct Suspect {
    std::string node;
    std::string why;  ///< in one line
  };
  MachineError(const std::string& message, std::vector<Suspect> suspects)
      : Error(message), suspects_(std::move(suspects)) {}
  /// Each of them a line `machine NODE: why` on standard error, for scripts.
  const std::vector<Suspect>& suspects() const { return suspects_; }

 private:
  std::vector<Suspect> suspects_;
};

/// What is said of an error that ends a command, and how it ends.
struct Failure {
  std::string message;
  int code = exit_code::error;
  std::vector<std::string> lines;  ///< for scripts, whole, after the message
};
Failure failure_of(const std::exception& error);

}  // namespace lexring
