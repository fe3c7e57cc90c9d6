/// XXH3-128 over what a dataset holds, in pieces: the tokens as they lie on disk (little-endian), then the documents
/// table (uint64).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace lexring {

class ContentHash {
 public:
  ContentHash();
  ~ContentHash();
  void update(std::span<const std::byte> bytes);
  std::string hex() const;  ///< 32 digits, of everything so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lexring
