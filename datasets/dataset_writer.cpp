#include "datasets/dataset_writer.h"

#include <algorithm>
#include <span>
#include <system_error>

#include "datasets/content_hash.h"
#include "framework/base/error.h"
#include "framework/io/hdf5_file.h"

namespace lexring {
namespace {

void require_space(const std::filesystem::path& output, std::uint64_t bytes) {
  std::error_code error;
  const auto directory = output.has_parent_path() ? output.parent_path() : ".";
  const auto space = std::filesystem::space(directory, error);
  require(error || space.capacity == 0 || space.available >= bytes,
          "no space left for {}: it needs {} more MiB and its disk has {}; free some space, or write to another disk",
          output.string(), (bytes >> 20) + 1, space.available >> 20);
}

}  // namespace

std::string write_dataset(const std::filesystem::path& path, const DatasetContents& contents,
                          const std::function<void()>& check_interrupted) {
  const Tokenizer& tokenizer = contents.tokenizer;
  const std::size_t width = token_width(tokenizer);
  const auto tokens = static_cast<std::int64_t>(contents.tokens.size() / width);
  require_space(path, contents.tokens.size() + (contents.documents.size() + contents.answers.size()) * 8);
  Hdf5File file(path, Hdf5File::Mode::create);
  ContentHash hash;
  file.create("tokens", width == 2 ? H5Type::u16 : H5Type::u32, {tokens});
  const auto rows = std::int64_t{1} << 22;
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min(rows, tokens)) * width);
  for (std::int64_t first = 0; first < tokens; first += rows) {
    check_interrupted();
    const auto count = std::min(rows, tokens - first);
    const auto part = std::span(buffer).first(static_cast<std::size_t>(count) * width);
    contents.tokens.read(static_cast<std::uint64_t>(first) * width, part);
    hash.update(part);
    file.write_rows("tokens", first, count, part);
  }
  const auto borders = std::as_bytes(std::span(contents.documents));
  hash.update(borders);
  file.write("documents", H5Type::u64, {static_cast<std::int64_t>(contents.documents.size())}, borders);
  if (!contents.answers.empty()) {
    const auto answers = std::as_bytes(std::span(contents.answers));
    hash.update(answers);
    file.write("answers", H5Type::u64, {static_cast<std::int64_t>(contents.answers.size())}, answers);
  }
  const auto token_bytes = tokenizer.token_bytes();
  file.write("token_bytes", H5Type::u16, {tokenizer.vocab()}, std::as_bytes(std::span(token_bytes)));
  file.write_attribute("/", "format_version", std::int64_t{1});
  file.write_attribute("/", "tokenizer", tokenizer.kind());
  file.write_attribute("/", "tokenizer_files", tokenizer.files());
  file.write_attribute("/", "vocab", tokenizer.vocab());
  file.write_attribute("/", "source", contents.source);
  if (contents.window > 0) file.write_attribute("/", "window", contents.window);
  file.write_attribute("/", "content_hash", hash.hex());
  file.close();
  return hash.hex();
}

}  // namespace lexring
