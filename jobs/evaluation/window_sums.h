/// Sums of losses over windows of a stream, which all the numbers of a cell are made of.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "datasets/dataset.h"
#include "jobs/evaluation/parts_file.h"
#include "jobs/evaluation/results.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// Over windows [first, last) of one length, by segment of the stream and by position in a window.
class WindowSums {
 public:
  /// `segment_ends`: of the whole stream; must outlive it, as must `dataset`.
  WindowSums(const Dataset& dataset, const std::vector<std::int64_t>& segment_ends, std::int64_t length,
             std::int64_t first, std::int64_t last);

  /// Rows of one window from `position` on; the first is token `token` of the stream. A negative target does not count.
  void add(std::int64_t token, std::int64_t position, const double* row_nll, const std::int32_t* targets,
           std::int64_t rows);
  /// The sum over ranks that took different windows, on each of them. Collective.
  void reduce(Communicator& ranks);

  /// As a part is kept, with seconds and memory behind the sums; `of` is the cell's name.
  Part part(const std::string& of, double seconds, double peak_mib) const;
  /// Adds those of a part of these windows; throws Error where it is of other ones.
  void add(const Part& part);

  /// What a cell says of them; of seconds and memory, those of the parts that were added.
  Cell cell() const;

 private:
  std::size_t segments() const { return segment_tokens_.size(); }

  const Dataset* dataset_;
  const std::vector<std::int64_t>* ends_;
  std::int64_t length_, first_, last_;
  std::size_t first_segment_ = 0;
  std::vector<std::pair<std::int64_t, std::int64_t>> buckets_;
  std::vector<double> segment_nll_, bucket_nll_;
  std::vector<std::int64_t> segment_tokens_, bucket_tokens_;
  double nll_ = 0, seconds_ = 0, peak_mib_ = 0;
  std::int64_t bytes_ = 0, not_finite_ = 0;
};

}  // namespace lexring
