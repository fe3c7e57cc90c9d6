/// Texts whose answers are what a model itself writes.
#pragma once

#include <vector>

#include "jobs/commands/text_stream.h"
#include "jobs/evaluation/task_scores.h"
#include "tests/jobs/evaluation/random_model.h"

namespace lexring::testing {

/// Five texts of 13, 20, 27, 34 and 41 bytes: a prompt, an answer of three bytes amid it, and one of one byte at its
/// end, both written greedily. Collective.
inline std::vector<ScoredText> written_texts(Transformer& model) {
  std::mt19937_64 random(11);
  std::vector<ScoredText> texts;
  for (std::int64_t size = 13; size <= 41; size += 7) {
    ScoredText text;
    TextStream stream(model, 4096);
    std::vector<float> scores;
    const auto append = [&](std::int32_t id) {
      text.text += static_cast<char>(id);
      scores = stream.read(std::vector<std::int32_t>{id});
    };
    const auto answer = [&](std::int64_t bytes) {
      const auto begin = static_cast<std::int64_t>(text.text.size());
      for (std::int64_t i = 0; i < bytes; ++i) append(draw(scores, 0, 0, random));
      text.answers.push_back({begin, begin + bytes});
    };
    for (std::int64_t i = 0; i < size / 2; ++i) append(static_cast<std::int32_t>(random() % 256));
    answer(3);
    while (static_cast<std::int64_t>(text.text.size()) < size - 1) append(static_cast<std::int32_t>(random() % 256));
    answer(1);
    texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace lexring::testing
