#include "datasets/byte_stream.h"

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <vector>

#include "framework/base/error.h"

namespace lexring {
namespace {

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(const std::filesystem::path& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    require(fd_ >= 0, "cannot read {}: {}", path.string(), std::strerror(errno));
    ::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);
  }
  PlainStream(const PlainStream&) = delete;
  PlainStream& operator=(const PlainStream&) = delete;
  ~PlainStream() override { ::close(fd_); }

  std::size_t read(std::span<char> out) override {
    std::size_t filled = 0;
    while (filled < out.size()) {
      const auto got = ::read(fd_, out.data() + filled, out.size() - filled);
      if (got < 0 && errno == EINTR) continue;
      require(got >= 0, "cannot read {} at byte {}: {}; check the disk or network mount it lies on", path_.string(),
              position_, std::strerror(errno));
      if (got == 0) break;
      filled += static_cast<std::size_t>(got);
      position_ += static_cast<std::uint64_t>(got);
    }
    return filled;
  }
  std::uint64_t position() const override { return position_; }

 private:
  std::filesystem::path path_;
  int fd_;
  std::uint64_t position_ = 0;
};

class ZstdStream final : public ByteStream {
 public:
  explicit ZstdStream(const std::filesystem::path& path)
      : path_(path), source_(path), context_(ZSTD_createDCtx(), &ZSTD_freeDCtx), buffer_(ZSTD_DStreamInSize()) {
    if (context_ == nullptr) throw std::bad_alloc();
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound);
  }

  std::size_t read(std::span<char> out) override {
    ZSTD_outBuffer produced{out.data(), out.size(), 0};
    while (produced.pos < produced.size) {
      if (input_.pos == input_.size && !ended_) refill();
      if (ended_ && frame_open_ == 0) break;
      const auto before = produced.pos;
      frame_open_ = ZSTD_decompressStream(context_.get(), &produced, &input_);
      require(ZSTD_getErrorCode(frame_open_) != ZSTD_error_memory_allocation,
              "there is not enough memory to decompress {} near byte {} (long windows, as zstd --long makes them, need "
              "as much); {}",
              path_.string(), position(), advice_on_memory);
      require(ZSTD_isError(frame_open_) == 0,
              "{} is not sound zstd near byte {}: {}; compress it again, or fetch it again", path_.string(), position(),
              ZSTD_getErrorName(frame_open_));
      // At the end of the file the decoder may still hold output, which comes out with empty input; when nothing comes,
      // the frame lacks its rest.
      require(!ended_ || frame_open_ == 0 || produced.pos > before,
              "{} is truncated: it ends at byte {}, in the middle of a zstd frame; fetch it again", path_.string(),
              source_.position());
    }
    return produced.pos;
  }
  std::uint64_t position() const override { return source_.position() - (input_.size - input_.pos); }

 private:
  void refill() {
    input_ = {buffer_.data(), source_.read(buffer_), 0};
    ended_ = input_.size == 0;
  }

  std::filesystem::path path_;
  PlainStream source_;
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context_;
  std::vector<char> buffer_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  bool ended_ = false;          ///< of the file
  std::size_t frame_open_ = 1;  ///< what the decoder still wants; 0 between frames. An empty file is no zstd file
};

}  // namespace

std::unique_ptr<ByteStream> open_plain(const std::filesystem::path& path) {
  return std::make_unique<PlainStream>(path);
}
std::unique_ptr<ByteStream> open_zstd(const std::filesystem::path& path) { return std::make_unique<ZstdStream>(path); }

}  // namespace lexring
