#include "datasets/dataset.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "framework/base/counted.h"
#include "framework/base/error.h"
#include "framework/io/hdf5_file.h"

namespace lexring {
namespace {

constexpr auto how_to_make_one = "make one with `lexring prepare --input TEXT... --output FILE.h5`";

struct Refusal : Error {
  using Error::Error;
};

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& cause) {
  throw Refusal(fmt::format("{} is not a usable dataset: {}; {}", path.string(), cause, how_to_make_one));
}

/// Foreign and cut files get their own words before the HDF5 library sees them.
void check_looks_like_hdf5(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) refuse(path, "there is no such file");
  if (std::filesystem::is_directory(status)) refuse(path, "it is a directory");
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse(path, fmt::format("it cannot be read ({})", std::strerror(errno)));
  std::array<char, 8> signature{};
  file.read(signature.data(), signature.size());
  if (file.gcount() == 0) refuse(path, "it is empty");
  constexpr std::array<char, 8> hdf5{'\x89', 'H', 'D', 'F', '\r', '\n', '\x1a', '\n'};
  if (signature != hdf5) refuse(path, "it is not an HDF5 file");
}

template <class Id>
std::uint32_t widen(const std::byte* raw, std::span<std::int32_t> out) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    Id id;
    std::memcpy(&id, raw + i * sizeof(Id), sizeof(Id));
    largest = std::max<std::uint32_t>(largest, id);
    out[i] = static_cast<std::int32_t>(id);
  }
  return largest;
}

class FileDescriptor {
 public:
  explicit FileDescriptor(const std::filesystem::path& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) refuse(path, fmt::format("it cannot be read ({})", std::strerror(errno)));
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() { ::close(fd_); }
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

struct Dataset::Impl {
  explicit Impl(const std::filesystem::path& file) : path(file), fd(file) {}

  std::filesystem::path path;
  FileDescriptor fd;
  std::uint64_t offset = 0;  ///< of /tokens in the file
  std::size_t width = 2;     ///< bytes of a token
  std::int64_t tokens = 0;
  std::int64_t vocab = 0;
  std::string tokenizer, tokenizer_files, source, content_hash;
  std::vector<std::uint64_t> documents, answers;
  std::int64_t window = 0;
  std::vector<std::uint16_t> token_bytes;

  LandmarkSpacing landmarks;
  /// Of the file where there are landmarks; `tokens` and `documents` are then those of the stream.
  std::int64_t file_tokens = 0;
  std::vector<std::uint64_t> file_documents;

  void load(const Hdf5File& file);
  void check() const;
  void insert_landmarks(std::int64_t every);
  /// The document that a token of `offsets`' stream belongs to.
  static std::size_t document_of(const std::vector<std::uint64_t>& offsets, std::uint64_t token) {
    return static_cast<std::size_t>(std::upper_bound(offsets.begin(), offsets.end(), token) - offsets.begin()) - 1;
  }
  /// The token of the file at a place of a document, or the next one where a landmark stands; behind the last: the
  /// last.
  std::uint64_t file_token(std::size_t document, std::uint64_t place) const {
    const auto before = static_cast<std::uint64_t>(landmarks.tokens_before(static_cast<std::int64_t>(place)));
    return std::min(file_documents[document] + before, file_documents[document + 1] - 1);
  }
  void read_raw(std::int64_t first, std::span<std::byte> out) const;
  void read_file(std::int64_t first, std::span<std::int32_t> out) const;
  void read_with_landmarks(std::int64_t first, std::span<std::int32_t> out) const;
};

void Dataset::Impl::load(const Hdf5File& file) {
  for (const auto* name : {"tokens", "documents", "token_bytes"}) {
    if (!file.exists(name)) refuse(path, fmt::format("it has no /{} (an HDF5 file of some other program?)", name));
    if (file.is_group(name)) refuse(path, fmt::format("/{} is a group", name));
    if (file.shape(name).size() != 1)
      refuse(path, fmt::format("/{} has {} dims where 1 is expected", name, file.shape(name).size()));
  }
  for (const auto* name : {"format_version", "tokenizer", "tokenizer_files", "vocab", "source", "content_hash"}) {
    if (!file.has_attribute("/", name))
      refuse(path, fmt::format("it has no attribute {} (an HDF5 file of some other program?)", name));
  }
  const auto version = file.int_attribute("/", "format_version");
  if (version != 1) refuse(path, fmt::format("its format version is {}, this program reads version 1", version));
  tokens = file.shape("tokens")[0];
  if (tokens == 0) refuse(path, "it holds no tokens");
  const auto type = file.type("tokens");
  if (type != H5Type::u16 && type != H5Type::u32) refuse(path, "/tokens is neither uint16 nor uint32");
  width = size_of(type);
  const auto place = file.contiguous_offset("tokens");
  if (!place) refuse(path, "/tokens is not contiguous (chunked, compressed, or never written)");
  offset = *place;
  vocab = file.int_attribute("/", "vocab");
  tokenizer = file.string_attribute("/", "tokenizer");
  tokenizer_files = file.string_attribute("/", "tokenizer_files");
  source = file.string_attribute("/", "source");
  content_hash = file.string_attribute("/", "content_hash");
  documents = file.read_all<std::uint64_t>("documents");
  token_bytes = file.read_all<std::uint16_t>("token_bytes");
  if (file.exists("answers")) answers = file.read_all<std::uint64_t>("answers");
  if (file.has_attribute("/", "window")) window = file.int_attribute("/", "window");
}

void Dataset::Impl::check() const {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) refuse(path, fmt::format("it cannot be examined ({})", std::strerror(errno)));
  const auto end = offset + static_cast<std::uint64_t>(tokens) * width;
  // The library refuses most cut files when it opens them; its own idea of the file's end is not ours to trust.
  if (static_cast<std::uint64_t>(status.st_size) < end) {
    refuse(path, fmt::format("it is truncated: its {} should end at byte {}, the file ends at byte {}",
                             counted(tokens, "token"), end, status.st_size));
  }
  if (vocab < 1 || token_bytes.size() != static_cast<std::size_t>(vocab)) {
    refuse(path, fmt::format("its vocabulary is {}, but /token_bytes has {}", vocab,
                             counted(token_bytes.size(), "entry", "entries")));
  }
  if (documents.size() < 2 || documents.front() != 0 || documents.back() != static_cast<std::uint64_t>(tokens) ||
      !std::is_sorted(documents.begin(), documents.end())) {
    refuse(path, fmt::format("/documents must rise from 0 to its {} and does not", counted(tokens, "token")));
  }
  if (answers.size() % 2 != 0 || !std::is_sorted(answers.begin(), answers.end()) ||
      (!answers.empty() && answers.back() > static_cast<std::uint64_t>(tokens))) {
    refuse(path, fmt::format("/answers must be pairs that rise within its {} and are not", counted(tokens, "token")));
  }
  if (window < 0) refuse(path, fmt::format("its windows are of {} tokens", window));
  for (std::size_t d = 0; window > 0 && d + 1 < documents.size(); ++d) {
    const auto length = static_cast<std::uint64_t>(window), first = documents[d], behind = documents[d + 1];
    if (first < behind && first / length != (behind - 1) / length)
      refuse(path, fmt::format("its document {} lies in two windows of {}", d, counted(window, "token")));
  }
}

void Dataset::Impl::insert_landmarks(std::int64_t every) {
  require(every > 0 && landmarks.every == 0,
          "{}: landmarks after every {}, behind those after every {}, are impossible", path.string(),
          counted(every, "token"), landmarks.every);
  landmarks = {every};
  file_tokens = tokens;
  file_documents = documents;
  const std::int64_t file_window = window;
  window = landmarks.place(file_window);
  for (std::size_t d = 0; d + 1 < documents.size(); ++d) {
    const auto begin = static_cast<std::int64_t>(file_documents[d]),
               end = static_cast<std::int64_t>(file_documents[d + 1]);
    documents[d + 1] = documents[d] + static_cast<std::uint64_t>(landmarks.place(end - begin));
    if (file_window > 0 && begin < end && end % file_window == 0)
      documents[d + 1] = static_cast<std::uint64_t>(end / file_window * window);
  }
  tokens = static_cast<std::int64_t>(documents.back());
  for (std::size_t border = 0; border < answers.size(); ++border) {
    const bool last = border % 2 == 1;  // one past the last token of an answer: just behind that
    const std::uint64_t token = answers[border] - (last ? 1 : 0);
    const std::size_t d = document_of(file_documents, token);
    const auto place = landmarks.place(static_cast<std::int64_t>(token - file_documents[d]));
    answers[border] = documents[d] + static_cast<std::uint64_t>(place) + (last ? 1 : 0);
  }
}

Dataset::Dataset(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;
Dataset::~Dataset() = default;

Dataset Dataset::open(const std::filesystem::path& path) {
  check_looks_like_hdf5(path);
  auto impl = std::make_unique<Impl>(path);
  try {
    impl->load(Hdf5File(path, Hdf5File::Mode::read));
  } catch (const Refusal&) {
    throw;
  } catch (const Hdf5Unavailable&) {
    throw;
  } catch (const Error& error) {  // the library's own words: a file cut in its metadata, an attribute of another type
    refuse(path, fmt::format("it is truncated, damaged or made by some other program ({})", error.what()));
  }
  impl->check();
  return Dataset(std::move(impl));
}

const std::filesystem::path& Dataset::path() const { return impl_->path; }
std::int64_t Dataset::tokens() const { return impl_->tokens; }
std::int64_t Dataset::vocab() const { return impl_->vocab; }
const std::string& Dataset::tokenizer() const { return impl_->tokenizer; }
const std::string& Dataset::tokenizer_files() const { return impl_->tokenizer_files; }
const std::string& Dataset::source() const { return impl_->source; }
const std::string& Dataset::content_hash() const { return impl_->content_hash; }
const std::vector<std::uint64_t>& Dataset::documents() const { return impl_->documents; }
const std::vector<std::uint16_t>& Dataset::token_bytes() const { return impl_->token_bytes; }
const std::vector<std::uint64_t>& Dataset::answers() const { return impl_->answers; }
std::int64_t Dataset::window() const { return impl_->window; }
int Dataset::token_width() const { return static_cast<int>(impl_->width); }

void Dataset::Impl::read_raw(std::int64_t first, std::span<std::byte> out) const {
  const auto count = static_cast<std::int64_t>(out.size() / width);
  const std::int64_t held = landmarks.every > 0 ? file_tokens : tokens;
  require(first >= 0 && count <= held - first, "tokens [{}, {}) of {} were asked for, which holds {}", first,
          first + count, path.string(), held);
  std::uint64_t position = offset + static_cast<std::uint64_t>(first) * width;
  while (!out.empty()) {
    const auto got = ::pread(fd.get(), out.data(), out.size(), static_cast<off_t>(position));
    if (got < 0 && errno == EINTR) continue;
    require(got >= 0, "cannot read {} at byte {}: {}; check the disk or network mount it lies on", path.string(),
            position, std::strerror(errno));
    require(
        got > 0,
        "{} ends at byte {}, though it was longer when it was opened; prepare it again, and not under a running job",
        path.string(), position);
    out = out.subspan(static_cast<std::size_t>(got));
    position += static_cast<std::uint64_t>(got);
  }
}

void Dataset::Impl::read_file(std::int64_t first, std::span<std::int32_t> out) const {
  // Read into the upper part of `out`, then widened from the front: no second buffer.
  const auto bytes = std::as_writable_bytes(out);
  const auto raw = bytes.last(out.size() * width);
  read_raw(first, raw);
  const auto largest = width == 2 ? widen<std::uint16_t>(raw.data(), out) : widen<std::uint32_t>(raw.data(), out);
  require(largest < vocab,
          "{} holds token {} among tokens [{}, {}), but its vocabulary is {}; the file is damaged, prepare it again",
          path.string(), largest, first, first + static_cast<std::int64_t>(out.size()), vocab);
}

void Dataset::Impl::read_with_landmarks(std::int64_t first, std::span<std::int32_t> out) const {
  const auto count = static_cast<std::int64_t>(out.size());
  require(first >= 0 && count <= tokens - first, "tokens [{}, {}) of {} were asked for, which holds {} with landmarks",
          first, first + count, path.string(), tokens);
  if (out.empty()) return;
  const auto begin = static_cast<std::uint64_t>(first), last = begin + out.size() - 1;
  std::size_t d = document_of(documents, begin);
  const std::size_t last_document = document_of(documents, last);
  const std::uint64_t from = file_token(d, begin - documents[d]);
  std::vector<std::int32_t> plain(file_token(last_document, last - documents[last_document]) - from + 1);
  read_file(static_cast<std::int64_t>(from), plain);
  for (std::uint64_t token = begin; token <= last; ++token) {
    while (documents[d + 1] <= token) ++d;
    const std::uint64_t place = token - documents[d];
    out[token - begin] = landmarks.is_landmark(static_cast<std::int64_t>(place)) ? static_cast<std::int32_t>(vocab)
                                                                                 : plain[file_token(d, place) - from];
  }
}

void Dataset::insert_landmarks(std::int64_t every) {
  if (every != 0) impl_->insert_landmarks(every);
}
const LandmarkSpacing& Dataset::landmarks() const { return impl_->landmarks; }
void Dataset::read_raw(std::int64_t first, std::span<std::byte> out) const { impl_->read_raw(first, out); }
void Dataset::read(std::int64_t first, std::span<std::int32_t> out) const {
  if (impl_->landmarks.every > 0) impl_->read_with_landmarks(first, out);
  else impl_->read_file(first, out);
}

std::int64_t Dataset::document_start(std::int64_t index) const {
  require(index >= 0 && index < impl_->tokens, "token {} of {} was asked for, which holds {}", index,
          impl_->path.string(), impl_->tokens);
  const auto& offsets = impl_->documents;
  return static_cast<std::int64_t>(offsets[Impl::document_of(offsets, static_cast<std::uint64_t>(index))]);
}

}  // namespace lexring
