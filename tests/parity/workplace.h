/// A directory for runs of several ranks, with data to train on.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "datasets/dataset.h"
#include "parallel/comm/communicator.h"

namespace lexring::parity {

class Workplace {
 public:
  /// Rank 0 makes a directory in `parent`, and a corpus of documents of all lengths in it: some longer than a window,
  /// and stretches of one-letter documents, in which every second token has no target when documents are masked.
  /// Collective.
  Workplace(std::shared_ptr<Communicator> world, const std::filesystem::path& parent);
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;
  /// Rank 0 removes it. Whoever still uses it must be waited for before.
  ~Workplace();

  std::filesystem::path operator/(const std::string& name) const { return directory_ / name; }
  const Dataset& data() const { return *data_; }

 private:
  std::shared_ptr<Communicator> world_;
  std::filesystem::path directory_;
  std::optional<Dataset> data_;
};

}  // namespace lexring::parity
