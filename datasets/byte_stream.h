/// Bytes of a file, decompressed on the way where they are compressed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace lexring {

/// The end of a message about too little memory, which is no property of a text: no text is left out for it.
inline constexpr auto advice_on_memory =
    "nothing is wrong with the text: end other programs, raise the limit (ulimit -v), or take a machine with more "
    "memory";

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  /// Fills the front of `out`; fewer bytes than asked for only at the end. Throws Error naming the file.
  virtual std::size_t read(std::span<char> out) = 0;
  /// Bytes consumed on disk.
  virtual std::uint64_t position() const = 0;
};

std::unique_ptr<ByteStream> open_plain(const std::filesystem::path& path);
std::unique_ptr<ByteStream> open_zstd(const std::filesystem::path& path);

}  // namespace lexring
