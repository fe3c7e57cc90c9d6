/// Hugging Face's tokenizer.json of a byte-level BPE, as plain data: GPT-2, GPT-NeoX, Llama 3, Qwen and what has their
/// layout. What such a file may ask for beside it and is not done here is refused by name, never passed over.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/tokenizers/merges.h"
#include "datasets/tokenizers/unicode_form.h"

namespace lexring {

/// A token beside those that merges make.
struct AddedToken {
  std::string text;
  std::uint32_t id;
  bool special;     ///< stands for no text: "<|endoftext|>" in a text is these thirteen characters
  bool normalized;  ///< looked for after normalisation, else before
};

struct ByteLevelBpe {
  std::vector<UnicodeForm> forms;   ///< one after another
  bool prefix_space = false;        ///< a text that does not begin with a space gets one
  std::vector<std::string> splits;  ///< expressions (split_pattern.h), each cuts what the one before left
  std::vector<std::string> tokens;  ///< [V] bytes by id; empty where there is none
  std::vector<Merge> merges;
  bool whole_words = false;  ///< a word that is a token is not merged (ignore_merges)
  std::vector<AddedToken> added;
};

/// Throws Error with what is not known in the file, or contradicts itself.
ByteLevelBpe parse_tokenizer_json(std::string_view text);
/// The text of a tokenizer.json for GPT-2's pair of files.
std::string tokenizer_json_of_gpt2(std::string_view vocab_json, std::string_view merges_txt);

}  // namespace lexring
