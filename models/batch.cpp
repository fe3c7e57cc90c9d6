#include "models/batch.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace lexring {

ModelBatch make_batch(std::int64_t sequences, std::int64_t length, std::vector<std::int32_t> ids,
                      std::vector<std::int32_t> targets, std::vector<std::int64_t> document_start, std::int64_t sinks) {
  ModelBatch batch;
  batch.tokens = dense_tokens(sequences, length);
  batch.ids = std::move(ids);
  batch.targets = std::move(targets);
  batch.document_start = std::move(document_start);
  for (const std::int64_t start : batch.document_start)
    batch.sink_end.push_back(start + std::min(sinks, std::numeric_limits<std::int64_t>::max() - start));
  return batch;
}

ModelBatch make_chunk(std::int64_t position, std::vector<std::int32_t> ids, std::vector<std::int32_t> targets,
                      std::vector<std::int64_t> document_start, std::int64_t sinks) {
  const auto rows = static_cast<std::int64_t>(ids.size());
  ModelBatch batch = make_batch(1, rows, std::move(ids), std::move(targets), std::move(document_start), sinks);
  std::iota(batch.tokens.position.begin(), batch.tokens.position.end(), position);
  return batch;
}

ModelBatch counted_in_tokens(const ModelBatch& batch) {
  ModelBatch counted{batch.tokens, {}, {}, batch.document_start, batch.sink_end};
  counted.tokens.coordinate.clear();
  for (const TokenTable::Sequence& s : batch.tokens.sequences) {
    const auto begin = batch.tokens.position.begin() + s.first, end = begin + s.count;
    for (auto n = static_cast<std::size_t>(s.first); n < static_cast<std::size_t>(s.first + s.count); ++n) {
      counted.tokens.position[n] = static_cast<std::int64_t>(n) - s.first;
      for (std::vector<std::int64_t>* places : {&counted.document_start, &counted.sink_end})
        if (!places->empty()) (*places)[n] = std::lower_bound(begin, end, (*places)[n]) - begin;
    }
  }
  return counted;
}

void check(const ModelBatch& batch, const ModelConfig& config) {
  check(batch.tokens);
  const auto rows = static_cast<std::size_t>(batch.tokens.rows());
  require(batch.ids.size() == rows, "a batch of {} positions came with {} tokens", rows, batch.ids.size());
  require(batch.targets.empty() || batch.targets.size() == rows, "a batch of {} tokens came with {} targets", rows,
          batch.targets.size());
  require(batch.document_start.empty() || batch.document_start.size() == rows,
          "a batch of {} tokens came with {} document starts", rows, batch.document_start.size());
  require(batch.sink_end.empty() || batch.sink_end.size() == rows, "a batch of {} tokens came with {} ends of sinks",
          rows, batch.sink_end.size());
  for (const std::int32_t id : batch.ids) {
    require(id >= 0 && id < config.vocab,
            "token {} is not in the model's vocabulary of {}; was the data prepared with another tokenizer?", id,
            config.vocab);
  }
  for (const std::int32_t target : batch.targets) {
    require(target >= -1 && target < config.vocab,
            "target {} is not in the model's vocabulary of {}; was the data prepared with another tokenizer?", target,
            config.vocab);
  }
  if (!config.position.kind->bounded) return;
  for (const std::int64_t position : batch.tokens.position) {
    require_usage(position < config.max_length,
                  "position {} is beyond the learned table of model.max_length = {}: learned positions do not "
                  "extrapolate; evaluate at lengths up to {}, or train with a larger model.max_length",
                  position, config.max_length, config.max_length);
  }
}

std::int64_t length_of(const TokenTable& tokens) {
  std::int64_t length = 0;
  for (std::size_t n = 0; n < tokens.position.size(); ++n)
    length = std::max(length, static_cast<std::int64_t>(std::floor(tokens.coordinate_of(n))) + 1);
  return length;
}

std::vector<DocumentPlace> document_places(const ModelBatch& batch, std::int64_t sinks, const TokenTable* cached) {
  std::vector<DocumentPlace> places(batch.tokens.position.size());
  if (!batch.document_start.empty()) {
    require(sinks == 0 || !batch.sink_end.empty(),
            "a pattern with sinks needs to know where each document's sinks end; fill sink_end");
    for (const TokenTable::Sequence& sequence : batch.tokens.sequences) {
      std::int64_t end = 0;  // of the document, which its last row tells
      for (std::int64_t row = sequence.first + sequence.count; row-- > sequence.first;) {
        const auto n = static_cast<std::size_t>(row);
        const bool last =
            row + 1 == sequence.first + sequence.count || batch.document_start[n + 1] != batch.document_start[n];
        if (last) end = batch.tokens.position[n] + 1;
        places[n] = {batch.document_start[n], sinks > 0 ? batch.sink_end[n] : 0, end};
      }
    }
    return places;
  }
  for (const TokenTable::Sequence& sequence : batch.tokens.sequences) {
    // The first `sinks` tokens of the sequence: those of the cache come before those of the chunk.
    std::vector<std::int64_t> first_tokens;
    const auto take = [&](const std::int64_t* positions, std::int64_t count) {
      for (std::int64_t i = 0;
           i < count && static_cast<std::int64_t>(first_tokens.size()) < std::max<std::int64_t>(sinks, 1); ++i) {
        first_tokens.push_back(positions[i]);
      }
    };
    if (cached != nullptr) take(cached->position.data(), cached->rows());
    take(batch.tokens.position.data() + sequence.first, sequence.count);
    if (first_tokens.empty() || sequence.count == 0) continue;
    const bool complete = static_cast<std::int64_t>(first_tokens.size()) >= sinks;
    // A sequence that has not come to its last sink yet: all that came so far are sinks.
    const std::int64_t end = complete ? first_tokens.back() + 1 : std::numeric_limits<std::int64_t>::max();
    const std::int64_t start = cached != nullptr && sinks == 0 ? 0 : first_tokens.front();
    const std::int64_t last = batch.tokens.position[static_cast<std::size_t>(sequence.first + sequence.count - 1)];
    std::fill_n(places.begin() + sequence.first, sequence.count, DocumentPlace{start, sinks > 0 ? end : 0, last + 1});
  }
  return places;
}

Visibility visibility(const ModelBatch& batch, const Pattern& pattern, const TokenTable* cached) {
  return pattern.visibility(batch.tokens, document_places(batch, pattern.sinks(), cached));
}

LandmarkPositions landmarks_of(const ModelBatch& batch, std::int64_t landmark) {
  LandmarkPositions positions;
  for (const TokenTable::Sequence& sequence : batch.tokens.sequences) {
    std::vector<std::int64_t>& own = positions[sequence.id];
    for (auto n = static_cast<std::size_t>(sequence.first);
         n < static_cast<std::size_t>(sequence.first + sequence.count); ++n) {
      if (batch.ids[n] == landmark) own.push_back(batch.tokens.position[n]);
    }
  }
  return positions;
}

std::vector<std::int64_t> starts_of(const std::vector<DocumentPlace>& places) {
  std::vector<std::int64_t> starts;
  for (const DocumentPlace& place : places) starts.push_back(place.start);
  return starts;
}

std::vector<std::int64_t> visible_keys(const TokenTable& queries, const Visibility& visible, const TokenTable& keys) {
  std::vector<std::int64_t> counts;
  auto of_keys = keys.sequences.begin();
  for (const TokenTable::Sequence& sequence : queries.sequences) {
    of_keys = std::find_if(of_keys, keys.sequences.end(), [&](const auto& other) { return other.id == sequence.id; });
    const std::int64_t* begin = keys.position.data() + of_keys->first;
    const std::int64_t* end = begin + of_keys->count;
    const auto below = [&](std::int64_t position) { return std::lower_bound(begin, end, position) - begin; };
    for (std::int64_t i = 0; i < sequence.count; ++i) {
      const auto n = static_cast<std::size_t>(sequence.first + i);
      const std::int64_t last = below(visible.end_of(n, queries.position[n])),
                         first = std::min(below(visible.first[n]), last);
      counts.push_back(last - first);
      if (visible.sink_begin.empty()) continue;
      counts.back() +=
          std::max<std::int64_t>(std::min(below(visible.sink_end[n]), first) - below(visible.sink_begin[n]), 0);
    }
  }
  return counts;
}

double visible_pairs(const TokenTable& tokens, const Visibility& visible) {
  double pairs = 0;
  for (const std::int64_t keys : visible_keys(tokens, visible, tokens)) pairs += static_cast<double>(keys);
  return pairs;
}

}  // namespace lexring
