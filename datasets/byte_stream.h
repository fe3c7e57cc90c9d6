/// Bytes of a file, decompressed on the way where they are compressed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace lexring {

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
