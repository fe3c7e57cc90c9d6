/// One golden case: read from its file, run, compared.
#pragma once

#include <string>

#include "framework/io/hdf5_file.h"
#include "jobs/commands/golden_comparison.h"
#include "models/transformer.h"
#include "parallel/data/data_parallel.h"

namespace lexring {

/// Builds the model of case `name` with its weights, takes the steps that `train` takes, by an optimizer that is
/// sharded as `shard` says, and compares: the whole of what the ranks of `context` (dp = 1) computed together, so that
/// all of them come to the same verdict. Collective. Throws Error when the file is not a golden file, UsageError when
/// device and precision do not fit.
GoldenResult run_golden_case(const Hdf5File& file, const std::string& name, const ModelRuntime& runtime, Shard shard,
                             const Context& context, Backend& backend);

}  // namespace lexring
