/// What an evaluation measures: a list of series, one for every checkpoint, rescaling of its rotary angles, attention
/// pattern with its size, and log-n factor of its scores. Each is measured at every length, and has a name that tells
/// only what differs between them.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "jobs/config/keys.h"
#include "jobs/config/options.h"
#include "jobs/evaluation/results.h"

namespace lexring {

struct SeriesKeys {
  std::vector<PatternKind> patterns;                 ///< empty: causal and blockwise, or full
  std::vector<std::int64_t> blocks, windows, sinks;  ///< empty: the checkpoint's
  std::vector<Scaling> scalings;                     ///< empty: the checkpoint's
  std::vector<std::int64_t> logn_bases;              ///< empty: the checkpoint's
  PositionConfig position;                           ///< of it, what `given` names
  AttentionConfig scores;                            ///< likewise
  std::set<std::string> given;                       ///< keys that were given
};
std::vector<Key> series_keys(SeriesKeys& keys);

/// A checkpoint of the evaluation.
struct Subject {
  std::string name;  ///< tells it from the others
  Options options;   ///< its training's, with what the command line changed
};

/// Short names that tell step directories from each other: the run's, with the step, or the whole path, as far as is
/// needed.
std::vector<std::string> checkpoint_names(const std::vector<std::string>& paths);

/// The series of all `subjects`, in their order, without cells.
///
/// A rescaling that the checkpoint was not trained with has the factor that was given, else one that follows the
/// evaluated length: max(1, length / original_length), as "dynamic" rescaling is defined in the literature;
/// dynamic, which follows the length by itself, and longrope keep the checkpoint's.
/// original_length is the checkpoint's (its training length). Checkpoints without rotary angles are measured as they
/// are.
///
/// Throws UsageError for values out of range, and for keys that have no effect on any of the series, by name.
std::vector<Series> plan_series(const SeriesKeys& keys, const std::vector<Subject>& subjects);

/// Positions of a series for windows of `length`.
PositionConfig position_at(const Series& series, std::int64_t length);

/// "rope, yarn by length / 256"
std::string describe_position(const Series& series);
/// "rope (yarn)"
std::string position_name(const PositionConfig& position);

}  // namespace lexring
