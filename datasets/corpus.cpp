#include "datasets/corpus.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "datasets/byte_stream.h"
#include "datasets/utf8.h"
#include "framework/base/counted.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

constexpr auto known_kinds = ".txt, .md, .pod (plain text) and .jsonl, each also with .zst behind";

std::optional<CorpusFile> recognise(const std::filesystem::path& path) {
  CorpusFile file{path, CorpusFormat::text, Compression::none};
  auto name = path.filename();
  if (name.extension() == ".zst") {
    file.compression = Compression::zstd;
    name = name.stem();
  }
  const auto kind = name.extension();
  if (kind == ".jsonl") {
    file.format = CorpusFormat::json_lines;
  } else if (kind != ".txt" && kind != ".md" && kind != ".pod") {
    return std::nullopt;
  }
  return file;
}

void add_file(CorpusFiles& corpus, CorpusFile file) {
  std::error_code error;
  file.bytes = std::filesystem::file_size(file.path, error);
  require(!error, "cannot read {}: {}", file.path.string(), error.message());
  // Known before hours of work on other files.
  require(::access(file.path.c_str(), R_OK) == 0, "cannot read {}: {}; make it readable, or leave it out",
          file.path.string(), std::strerror(errno));
  corpus.bytes += file.bytes;
  corpus.files.push_back(std::move(file));
}

void add_directory(CorpusFiles& corpus, const std::filesystem::path& directory) {
  const auto known = [](const std::filesystem::path& path) { return recognise(path).has_value(); };
  LeftOut left_out;
  const auto paths = walk_directory(directory, known, left_out);
  require_usage(!paths.empty(), "no corpus file in directory {}; what is read: {}{}", directory.string(), known_kinds,
                left_out.count > 0 ? fmt::format("; left out: {}", fmt::join(left_out.examples, ", ")) : "");
  for (const auto& path : paths) add_file(corpus, *recognise(path));
  for (const auto& example : left_out.examples) {
    if (corpus.left_out.examples.size() < 10) corpus.left_out.examples.push_back(example);
  }
  corpus.left_out.count += left_out.count;
}

}  // namespace

CorpusFiles find_corpus(const std::vector<std::string>& inputs) {
  require_usage(!inputs.empty(), "no corpus was given; name files or directories with --input; what is read: {}",
                known_kinds);
  CorpusFiles corpus;
  for (const auto& input : inputs) {
    const std::filesystem::path path(input);
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    require_usage(
        std::filesystem::exists(status), "there is no corpus file {}{}; check the path given to --input", input,
        status.type() == std::filesystem::file_type::none ? " that can be reached (" + error.message() + ")" : "");
    if (std::filesystem::is_directory(status)) {
      add_directory(corpus, path);
      continue;
    }
    require_usage(std::filesystem::is_regular_file(status),
                  "{} is neither a file nor a directory; write what comes out of it to a file first", input);
    auto file = recognise(path);
    require_usage(file.has_value(), "{} is of no known kind; what is read: {}; rename it if it is one of these", input,
                  known_kinds);
    add_file(corpus, std::move(*file));
  }
  return corpus;
}

struct CorpusReader::Impl {
  std::vector<CorpusFile> files;
  std::size_t block_bytes;
  std::function<void()> pause;

  std::size_t file = 0;
  std::unique_ptr<ByteStream> stream;  ///< of files[file], once begun
  std::string carry;                   ///< read, but behind the last block's cut
  bool ended = false;                  ///< the stream has no more
  std::uint64_t line = 1, byte = 0;
  std::uint64_t bytes_before = 0;  ///< on disk, of earlier files

  void begin_file();
  void end_file();
  void fill(TextBlock& block);
  std::size_t cut(std::string_view text, std::size_t had) const;
};

void CorpusReader::Impl::begin_file() {
  stream = files[file].compression == Compression::zstd ? open_zstd(files[file].path) : open_plain(files[file].path);
  carry.clear();
  ended = false;
  line = 1;
  byte = 0;
}

void CorpusReader::Impl::end_file() {
  require(stream->position() == files[file].bytes,
          "{} has changed while it was read: it had {} and now ends at {}; run again when it is whole",
          files[file].path.string(), counted(files[file].bytes, "byte"), stream->position());
  bytes_before += stream->position();
  stream.reset();
  ++file;
}

/// Where to part `text`, of which the first `had` bytes were a block without a place to part; 0: nowhere yet.
std::size_t CorpusReader::Impl::cut(std::string_view text, std::size_t had) const {
  const auto line_break = had == 0 ? text.rfind('\n') : text.find('\n', had);  // a long line is alone
  if (line_break != std::string_view::npos) return line_break + 1;
  if (ended) return text.size();
  return files[file].format == CorpusFormat::text ? whole_characters(text) : 0;
}

/// Reads until there is a place to cut at; what is behind the cut is carried to the next block.
void CorpusReader::Impl::fill(TextBlock& block) {
  auto& storage = block.storage;
  storage.resize(std::max(block_bytes, carry.size() + 1));
  std::copy(carry.begin(), carry.end(), storage.data());
  auto have = std::exchange(carry, {}).size();
  for (std::size_t had = 0;; had = have, storage.resize(have + block_bytes)) {
    if (pause) pause();
    const auto got = stream->read(std::span(storage.data(), storage.size()).subspan(have));
    ended = have + got < storage.size();
    have += got;
    block.size = had == 0 && ended ? have : cut({storage.data(), have}, had);
    if (block.size > 0 || ended) break;
  }
  carry.assign(storage.data() + block.size, have - block.size);
  storage.resize(block.size + TextBlock::padding);
}

CorpusReader::CorpusReader(std::vector<CorpusFile> files, std::size_t block_bytes, std::function<void()> pause)
    : impl_(std::make_unique<Impl>()) {
  impl_->files = std::move(files);
  impl_->block_bytes = block_bytes;
  impl_->pause = std::move(pause);
}

CorpusReader::CorpusReader(CorpusReader&&) noexcept = default;
CorpusReader::~CorpusReader() = default;

bool CorpusReader::next(TextBlock& block) {
  auto& reader = *impl_;
  if (reader.file == reader.files.size()) return false;
  const auto& file = reader.files[reader.file];
  block.file = reader.file;
  block.format = file.format;
  try {
    if (!reader.stream) reader.begin_file();
    block.first_line = reader.line;
    block.first_byte = reader.byte;
    block.begins_document = reader.byte == 0;
    reader.fill(block);
  } catch (const std::bad_alloc&) {
    fail("there is not enough memory to read {}, line {}; {}", file.path.string(), reader.line, advice_on_memory);
  }
  const auto text = block.text();
  reader.line += static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
  reader.byte += text.size();
  block.bytes_read = reader.bytes_before + reader.stream->position();
  block.ends_document = reader.ended && reader.carry.empty();
  if (block.ends_document) reader.end_file();
  return true;
}

}  // namespace lexring
