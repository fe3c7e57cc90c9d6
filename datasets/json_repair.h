/// What Python's json reads and simdjson does not, in a line of JSON.
#pragma once

#include <cstdint>
#include <span>

namespace lexring {

struct JsonRepair {
  std::int64_t surrogates = 0;  ///< lone halves of a character ("\ud800"), now U+FFFD
  bool not_a_number = false;    ///< there was NaN, Infinity or -Infinity, which is no JSON; now 0
};

/// Changes `line` in place, without changing its length, into one that a strict parser reads: lone surrogates become
/// U+FFFD; numbers, of which nobody here asks the value, become 0, as some are larger than the parser's types (integers
/// beyond 64 bits, 1e400). What is broken stays broken.
JsonRepair repair_json(std::span<char> line);

}  // namespace lexring
