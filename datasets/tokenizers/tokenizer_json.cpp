#include "datasets/tokenizers/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>
#include <unordered_map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.h"

namespace lexring {
namespace {

using Json = nlohmann::json;

/// GPT-2's, which the pre-tokenizer ByteLevel has built in.
constexpr const char* gpt2_words = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void append_utf8(std::string& text, std::uint32_t code) {  // below U+0800
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else {
    text += static_cast<char>(0xC0 | code >> 6);
    text += static_cast<char>(0x80 | (code & 0x3F));
  }
}

/// How files write bytes: what prints in Latin-1 as itself, the others as the characters from U+0100 on, in order.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    std::uint32_t next = 256;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      const bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      std::string written;
      append_utf8(written, prints ? byte : next++);
      bytes_.emplace(std::move(written), static_cast<char>(byte));
    }
  }
  /// nullopt where the text has other characters.
  std::optional<std::string> bytes_of(const std::string& text) const {
    std::string bytes;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t length = (static_cast<unsigned char>(text[i]) & 0xE0) == 0xC0 ? 2 : 1;
      const auto found = bytes_.find(text.substr(i, length));
      if (found == bytes_.end()) return std::nullopt;
      bytes += found->second;
      i += length;
    }
    return bytes;
  }

 private:
  std::unordered_map<std::string, char> bytes_;
};

std::string type_of(const Json& part) { return part.is_object() ? part.value("type", "without a type") : part.dump(); }

bool is_null(const Json& object, const char* name) { return !object.contains(name) || object[name].is_null(); }

void allow(const Json& object, const std::string& what, std::initializer_list<const char*> names) {
  for (const auto& [name, value] : object.items()) {
    const bool known = std::any_of(names.begin(), names.end(), [&](const char* one) { return name == one; });
    require(known, "{} has the field \"{}\", which this version does not know", what, name);
  }
}

/// Null, or of these values; a field that would change what is done.
void require_off(const Json& object, const std::string& what, const char* name, std::initializer_list<Json> off) {
  if (is_null(object, name)) return;
  const bool is_off = std::any_of(off.begin(), off.end(), [&](const Json& value) { return object[name] == value; });
  require(is_off, "{} has \"{}\": {}, which this version does not do", what, name, object[name].dump());
}

void read_normalizer(const Json& part, ByteLevelBpe& bpe) {
  if (part.is_null()) return;
  if (type_of(part) == "Sequence") {
    for (const Json& one : part.at("normalizers")) read_normalizer(one, bpe);
    return;
  }
  const auto form = unicode_form(type_of(part));
  require(form.has_value(), "normalizer {} is not known; those that are: NFC, NFD, NFKC, NFKD", type_of(part));
  bpe.forms.push_back(*form);
}

void read_pre_tokenizer(const Json& part, ByteLevelBpe& bpe, bool& byte_level) {
  const std::string type = type_of(part), what = "pre-tokenizer " + type;
  require(!byte_level, "{} comes after ByteLevel, which must be the last", what);
  if (type == "Sequence") {
    for (const Json& one : part.at("pretokenizers")) read_pre_tokenizer(one, bpe, byte_level);
  } else if (type == "ByteLevel") {
    allow(part, what, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
    byte_level = true;
    bpe.prefix_space = part.value("add_prefix_space", true);
    require(!bpe.prefix_space || bpe.splits.empty(),
            "{} adds a space after other pre-tokenizers have cut words, which this version does not do", what);
    if (part.value("use_regex", true)) bpe.splits.emplace_back(gpt2_words);
  } else if (type == "Split") {
    allow(part, what, {"type", "pattern", "behavior", "invert"});
    const Json& pattern = part.at("pattern");
    require(pattern.contains("Regex"), "{} by {}; this version cuts by a Regex only", what, pattern.dump());
    require(part.value("behavior", "") == "Isolated" && !part.value("invert", false),
            "{} with behavior {} and invert {}; this version knows Isolated and false only", what,
            part.value("behavior", "none"), part.value("invert", false));
    bpe.splits.push_back(pattern.at("Regex").get<std::string>());
  } else if (type == "Digits") {
    bpe.splits.emplace_back(part.value("individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)");
  } else {
    fail("{} is not known; those that are: ByteLevel, Split, Digits, Sequence", what);
  }
}

/// These add special tokens around a text; here documents end with one, and nothing else is added.
void check_post_processor(const Json& part) {
  if (part.is_null()) return;
  const std::string type = type_of(part);
  if (type == "Sequence") {
    for (const Json& one : part.at("processors")) check_post_processor(one);
    return;
  }
  require(
      type == "ByteLevel" || type == "TemplateProcessing" || type == "RobertaProcessing" || type == "BertProcessing",
      "post-processor {} is not known; those that are: ByteLevel, TemplateProcessing, RobertaProcessing, "
      "BertProcessing, Sequence",
      type);
}

void read_added(const Json& list, ByteLevelBpe& bpe) {
  for (const Json& one : list) {
    allow(one, "an added token", {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    AddedToken token{one.at("content").get<std::string>(), one.at("id").get<std::uint32_t>(),
                     one.value("special", false), one.value("normalized", true)};
    const std::string what = fmt::format("the added token {}", token.text);
    if (!token.special) {
      for (const char* name : {"single_word", "lstrip", "rstrip"}) require_off(one, what, name, {false});
    }
    bpe.added.push_back(std::move(token));
  }
}

void put(std::vector<std::string>& tokens, std::uint32_t id, std::string bytes) {
  constexpr std::uint32_t most = 1U << 24;
  require(id < most, "the token \"{}\" has the id {}; this version takes ids below {}", bytes, id, most);
  if (tokens.size() <= id) tokens.resize(id + 1);
  tokens[id] = std::move(bytes);
}

void read_model(const Json& model, ByteLevelBpe& bpe) {
  // Files of old versions have no type.
  require(model.value("type", "BPE") == "BPE", "the model is {}; this version knows BPE only", type_of(model));
  allow(model, "the model",
        {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
         "ignore_merges", "vocab", "merges"});
  require_off(model, "the model", "dropout", {0.0});
  require_off(model, "the model", "continuing_subword_prefix", {""});
  require_off(model, "the model", "end_of_word_suffix", {""});
  require_off(model, "the model", "byte_fallback", {false});
  bpe.whole_words = model.value("ignore_merges", false);

  const ByteAlphabet alphabet;
  std::unordered_map<std::string, std::uint32_t> ids;
  for (const auto& [written, id] : model.at("vocab").items()) {
    ids.emplace(written, id.get<std::uint32_t>());
    put(bpe.tokens, id.get<std::uint32_t>(), alphabet.bytes_of(written).value_or(written));
  }
  const auto id_of = [&](const std::string& written, std::size_t line) {
    const auto found = ids.find(written);
    require(found != ids.end(), "merge {} needs the token \"{}\", which is not in the vocabulary", line, written);
    return found->second;
  };
  for (const Json& merge : model.at("merges")) {
    const std::size_t line = bpe.merges.size();
    std::string left, right;
    if (merge.is_array() && merge.size() == 2) {
      left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
    } else {
      const auto text = merge.get<std::string>();
      const auto space = text.find(' ');
      require(space != std::string::npos && text.find(' ', space + 1) == std::string::npos,
              "merge {} is \"{}\"; two tokens with a space between them are expected", line, text);
      left = text.substr(0, space), right = text.substr(space + 1);
    }
    bpe.merges.push_back({id_of(left, line), id_of(right, line), id_of(left + right, line)});
  }
}

}  // namespace

ByteLevelBpe parse_tokenizer_json(std::string_view text) {
  ByteLevelBpe bpe;
  try {
    const Json file = Json::parse(text);
    require(file.is_object() && file.contains("model"), "there is no \"model\" in it: it is no tokenizer.json");
    // Truncation and padding are about single calls of that library.
    allow(file, "the file",
          {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
           "decoder", "model"});
    const auto part = [&](const char* name) { return is_null(file, name) ? Json() : file[name]; };
    read_normalizer(part("normalizer"), bpe);
    bool byte_level = false;
    read_pre_tokenizer(part("pre_tokenizer"), bpe, byte_level);
    require(byte_level, "there is no pre-tokenizer ByteLevel: it is no byte-level BPE");
    check_post_processor(part("post_processor"));
    const Json decoder = part("decoder");
    require(decoder.is_null() || type_of(decoder) == "ByteLevel", "decoder {} is not known; ByteLevel is",
            type_of(decoder));
    read_model(file["model"], bpe);
    read_added(is_null(file, "added_tokens") ? Json::array() : file["added_tokens"], bpe);
    for (const AddedToken& token : bpe.added) put(bpe.tokens, token.id, token.text);
  } catch (const Json::exception& error) {
    fail("it cannot be read: {}", error.what());
  }
  return bpe;
}

std::string tokenizer_json_of_gpt2(std::string_view vocab_json, std::string_view merges_txt) {
  Json file;
  try {
    file["model"] = {{"type", "BPE"}, {"vocab", Json::parse(vocab_json)}, {"merges", Json::array()}};
  } catch (const Json::exception& error) {
    fail("vocab.json cannot be read: {}", error.what());
  }
  for (std::size_t at = 0; at < merges_txt.size();) {
    const std::size_t end = std::min(merges_txt.find('\n', at), merges_txt.size());
    std::string line(merges_txt.substr(at, end - at));
    if (line.ends_with('\r')) line.pop_back();
    at = end + 1;
    if (!line.empty() && !line.starts_with("#version")) file["model"]["merges"].push_back(std::move(line));
  }
  file["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  file["added_tokens"] = Json::array();
  if (const Json& vocab = file["model"]["vocab"]; vocab.contains("<|endoftext|>"))
    file["added_tokens"].push_back(
        {{"id", vocab["<|endoftext|>"]}, {"content", "<|endoftext|>"}, {"special", true}, {"normalized", false}});
  return file.dump();
}

}  // namespace lexring
