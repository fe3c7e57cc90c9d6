#include "datasets/tokenizers/byte_level_bpe.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <unordered_map>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "datasets/tokenizers/merges.h"
#include "datasets/tokenizers/split_pattern.h"
#include "datasets/tokenizers/tokenizer_json.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t cached_words = 1 << 16, longest_cached = 64;

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
template <class Value>
using ByText = std::unordered_map<std::string, Value, TextHash, std::equal_to<>>;

std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  require(stream.good(), "{} cannot be opened; check its permissions", path.string());
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// Those that are looked for in texts, by their first byte, the longest first.
class AddedTokens {
 public:
  AddedTokens(const std::vector<AddedToken>& added, bool normalized) {
    for (const AddedToken& token : added) {
      if (!token.special && token.normalized == normalized && !token.text.empty())
        by_first_[static_cast<unsigned char>(token.text[0])].push_back(token);
    }
    for (auto& tokens : by_first_) {
      std::stable_sort(tokens.begin(), tokens.end(),
                       [](const AddedToken& a, const AddedToken& b) { return a.text.size() > b.text.size(); });
      any_ = any_ || !tokens.empty();
    }
  }

  /// Parts `text` at the leftmost tokens, of these the longest.
  void split(std::string_view text, const std::function<void(std::string_view)>& between,
             const std::function<void(std::uint32_t)>& token) const {
    std::size_t done = 0;
    for (std::size_t at = 0; any_ && at < text.size();) {
      const AddedToken* const found = at_begin_of(text.substr(at));
      if (found == nullptr) {
        ++at;
        continue;
      }
      if (at > done) between(text.substr(done, at - done));
      token(found->id);
      done = at += found->text.size();
    }
    if (done < text.size()) between(text.substr(done));
  }

 private:
  const AddedToken* at_begin_of(std::string_view text) const {
    for (const AddedToken& token : by_first_[static_cast<unsigned char>(text[0])]) {
      if (text.starts_with(token.text)) return &token;
    }
    return nullptr;
  }

  std::array<std::vector<AddedToken>, 256> by_first_;
  bool any_ = false;
};

}  // namespace

struct ByteLevelBpeTokenizer::Impl {
  explicit Impl(const std::string& stored)
      : files(stored), bpe(parse(stored)), merges(bpe.merges), raw(bpe.added, false), normalized(bpe.added, true) {
    for (const std::string& expression : bpe.splits) splits.emplace_back(expression);
    for (std::uint32_t id = 0; id < bpe.tokens.size(); ++id) {
      const std::string& bytes = bpe.tokens[id];
      if (bytes.size() == 1) byte_ids[static_cast<unsigned char>(bytes[0])] = id;
      if (bpe.whole_words) words.emplace(bytes, id);
    }
    for (std::size_t byte = 0; byte < 256; ++byte)
      require(byte_ids[byte] != none, "the vocabulary has no token for byte {}: it is no byte-level BPE", byte);
    for (const AddedToken& token : bpe.added) {
      if (token.text == end_text) end = token.id;
      if (token.special) words.erase(token.text);
    }
    require(end != none, "its end of document \"{}\" is none of its special tokens", end_text);
  }

  static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();
  std::string files, end_text;
  ByteLevelBpe bpe;
  MergeTable merges;
  AddedTokens raw, normalized;
  std::vector<SplitPattern> splits;
  std::array<std::uint32_t, 256> byte_ids = [] {
    std::array<std::uint32_t, 256> ids{};
    ids.fill(none);
    return ids;
  }();
  ByText<std::uint32_t> words;  ///< that are tokens, where these are not merged
  std::uint32_t end = none;

 private:
  ByteLevelBpe parse(const std::string& stored) {
    const Json json = Json::parse(stored, nullptr, false);
    require(json.is_object() && json.contains("end_of_document") && json.contains("tokenizer"),
            "what is stored of the tokenizer is not that of a byte-level BPE; the dataset or checkpoint is damaged");
    end_text = json["end_of_document"].get<std::string>();
    return parse_tokenizer_json(json["tokenizer"].dump());
  }
};

namespace {

/// A word's ids, kept: most words of a text have been there before.
class WordCache {
 public:
  const std::vector<std::uint32_t>* find(std::string_view word) const {
    const auto found = words_.find(word);
    return found == words_.end() ? nullptr : &found->second;
  }
  void add(std::string_view word, const std::vector<std::uint32_t>& ids) {
    if (word.size() > longest_cached) return;
    if (words_.size() >= cached_words) words_.clear();
    words_.emplace(word, ids);
  }

 private:
  ByText<std::vector<std::uint32_t>> words_;
};

}  // namespace

class BpeEncoder final : public Tokenizer::Encoder {
 public:
  explicit BpeEncoder(const ByteLevelBpeTokenizer::Impl& bpe) : bpe_(bpe) {
    for (const SplitPattern& pattern : bpe.splits) matchers_.emplace_back(pattern);
  }

  void encode(std::string_view text, std::vector<std::uint32_t>& ids) override {
    const auto add = [&](std::uint32_t id) { ids.push_back(id); };
    bpe_.raw.split(
        text,
        [&](std::string_view part) {
          std::string formed;
          for (const UnicodeForm form : bpe_.bpe.forms) part = formed = in_form(part, form);
          bpe_.normalized.split(
              part, [&](std::string_view words) { encode_words(words, ids); }, add);
        },
        add);
  }

 private:
  void encode_words(std::string_view text, std::vector<std::uint32_t>& ids) {
    if (!bpe_.bpe.prefix_space || text.starts_with(' ')) return split(0, text, ids);
    split(0, fmt::format(" {}", text), ids);
  }

  void split(std::size_t level, std::string_view text, std::vector<std::uint32_t>& ids) {
    if (level == matchers_.size()) return encode_word(text, ids);
    matchers_[level].split(text, [&](std::string_view part) { split(level + 1, part, ids); });
  }

  void encode_word(std::string_view word, std::vector<std::uint32_t>& ids) {
    const std::vector<std::uint32_t>* known = cache_.find(word);
    if (known == nullptr) {
      merge(word);
      cache_.add(word, word_);
      known = &word_;
    }
    ids.insert(ids.end(), known->begin(), known->end());
  }

  void merge(std::string_view word) {
    word_.clear();
    if (const auto whole = bpe_.words.find(word); whole != bpe_.words.end()) return word_.push_back(whole->second);
    for (const char byte : word) word_.push_back(bpe_.byte_ids[static_cast<unsigned char>(byte)]);
    bpe_.merges.apply(word_);
  }

  const ByteLevelBpeTokenizer::Impl& bpe_;
  std::vector<SplitPattern::Matcher> matchers_;
  WordCache cache_;
  std::vector<std::uint32_t> word_;
};

ByteLevelBpeTokenizer::ByteLevelBpeTokenizer(const std::string& files) : impl_(std::make_unique<Impl>(files)) {}
ByteLevelBpeTokenizer::~ByteLevelBpeTokenizer() = default;

std::string ByteLevelBpeTokenizer::files() const { return impl_->files; }
std::int64_t ByteLevelBpeTokenizer::vocab() const { return static_cast<std::int64_t>(impl_->bpe.tokens.size()); }
std::int32_t ByteLevelBpeTokenizer::end_of_document() const { return static_cast<std::int32_t>(impl_->end); }
std::unique_ptr<Tokenizer::Encoder> ByteLevelBpeTokenizer::encoder() const {
  return std::make_unique<BpeEncoder>(*impl_);
}

std::vector<std::uint16_t> ByteLevelBpeTokenizer::token_bytes() const {
  std::vector<std::uint16_t> bytes;
  for (const std::string& token : impl_->bpe.tokens) bytes.push_back(static_cast<std::uint16_t>(token.size()));
  for (const AddedToken& token : impl_->bpe.added) {
    if (token.special) bytes[token.id] = 0;
  }
  return bytes;
}

std::string ByteLevelBpeTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) {
    require(id >= 0 && id < vocab(),
            "token {} is not in the tokenizer's vocabulary of {}; the model or the dataset uses another tokenizer", id,
            vocab());
    if (id != end_of_document()) text += impl_->bpe.tokens[static_cast<std::size_t>(id)];
  }
  return text;
}

namespace {

constexpr std::array known_ends = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"};

/// tokenizer_config.json's eos_token, which is a text or an object with one; empty: it says none.
std::string end_in_config(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return "";
  const Json config = Json::parse(read_file(path), nullptr, false);
  require(config.is_object(), "{} is no JSON object", path.string());
  if (!config.contains("eos_token") || config["eos_token"].is_null()) return "";
  const Json& end = config["eos_token"];
  return end.is_object() ? end.value("content", "") : end.get<std::string>();
}

std::string choose_end(const ByteLevelBpe& bpe, const std::string& asked, const std::filesystem::path& path) {
  std::vector<std::string> special, known;
  for (const AddedToken& token : bpe.added) {
    if (token.special) special.push_back(token.text);
  }
  const auto is_special = [&](const std::string& text) {
    return std::find(special.begin(), special.end(), text) != special.end();
  };
  std::copy_if(known_ends.begin(), known_ends.end(), std::back_inserter(known), is_special);
  const std::string end = asked.empty() && known.size() == 1 ? known[0] : asked;
  special.resize(std::min<std::size_t>(special.size(), 20));
  require_usage(is_special(end),
                "{}: {}; name the special token that ends documents with --end-of-document, e.g. one of {}",
                path.string(),
                asked.empty() ? "which of its tokens ends a document is not said"
                              : fmt::format("\"{}\" is none of its special tokens", asked),
                fmt::join(special, " "));
  return end;
}

}  // namespace

std::string read_bpe_files(const std::filesystem::path& path, const std::string& end_of_document) {
  const bool directory = std::filesystem::is_directory(path);
  const auto file = directory ? path / "tokenizer.json" : path;
  const bool gpt2 = directory && !std::filesystem::exists(file) && std::filesystem::exists(path / "vocab.json");
  require_usage(gpt2 || std::filesystem::exists(file),
                "--tokenizer {}: {}; give bytes, a tokenizer.json, or a directory with one or with vocab.json and "
                "merges.txt",
                path.string(), directory ? "there is no tokenizer.json in it" : "there is no such file");
  const std::string text =
      gpt2 ? tokenizer_json_of_gpt2(read_file(path / "vocab.json"), read_file(path / "merges.txt")) : read_file(file);
  try {
    const ByteLevelBpe bpe = parse_tokenizer_json(text);
    const std::string asked =
        end_of_document.empty() ? end_in_config(file.parent_path() / "tokenizer_config.json") : end_of_document;
    return Json{{"end_of_document", choose_end(bpe, asked, path)}, {"tokenizer", Json::parse(text)}}.dump();
  } catch (const UsageError&) {
    throw;
  } catch (const Error& error) {
    throw UsageError(fmt::format("--tokenizer {}: {}", path.string(), error.what()));
  }
}

}  // namespace lexring
