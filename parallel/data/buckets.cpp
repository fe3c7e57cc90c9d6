#include "parallel/data/buckets.h"

#include <algorithm>

namespace lexring {

std::vector<Stretch> cut_gradients(const Tensor& gradients, const std::vector<Parameter>& parameters,
                                   const Sections& sections, std::size_t bytes) {
  const auto unit = static_cast<std::ptrdiff_t>(size_of(gradients.dtype()));
  const std::int64_t longest = std::max<std::int64_t>(static_cast<std::int64_t>(bytes) / unit, 1);
  std::vector<Stretch> stretches;
  std::int64_t end = gradients.elements(), begin = end;
  for (std::size_t s = 0; s < sections.size(); ++s) {
    std::int64_t lowest = begin;
    for (const std::size_t i : sections[s]) {
      const Tensor& gradient = parameters.at(i).gradient;
      const std::int64_t at = (gradient.raw() - gradients.raw()) / unit;
      require(at >= 0 && at + gradient.elements() <= begin,
              "the gradient of {} does not lie before those that are final earlier", parameters[i].name);
      lowest = std::min(lowest, at);
    }
    begin = lowest;
    for (; end - begin >= longest; end -= longest) stretches.push_back({s, end - longest, longest});
  }
  require(begin == 0, "{} elements of gradients belong to no section", begin);
  if (end > 0) stretches.push_back({sections.size() - 1, 0, end});
  return stretches;
}

std::vector<Bucket> make_buckets(const std::vector<Parameter>& parameters, const Sections& sections,
                                 const std::vector<std::vector<RowShare>>& shares, std::size_t bytes) {
  std::vector<std::vector<Bucket::Rows>> owned(parameters.size());  // by parameter, then by owner
  for (std::size_t r = 0; r < shares.size(); ++r) {
    for (const RowShare& share : shares[r]) owned[share.parameter].push_back({share, static_cast<int>(r), 0});
  }
  std::vector<Bucket> buckets;
  Bucket open;
  std::size_t filled = 0;
  const auto close = [&] {
    if (open.rows.empty()) return;
    std::stable_sort(open.rows.begin(), open.rows.end(),
                     [](const auto& a, const auto& b) { return a.owner < b.owner; });
    buckets.push_back(std::exchange(open, {}));
    filled = 0;
  };
  for (std::size_t s = 0; s < sections.size(); ++s) {
    for (const std::size_t i : sections[s]) {
      const Tensor& gradient = parameters.at(i).gradient;
      const std::size_t row_bytes = static_cast<std::size_t>(gradient.row_elements()) * size_of(gradient.dtype());
      const auto parts = static_cast<std::int64_t>(std::max<std::size_t>((gradient.bytes() + bytes - 1) / bytes, 1));
      for (std::int64_t part = 0; part < parts; ++part) {
        for (const Bucket::Rows& whole : owned[i]) {
          const std::int64_t count = whole.share.count, first = count * part / parts, last = count * (part + 1) / parts;
          if (first == last) continue;
          open.rows.push_back({{i, whole.share.first + first, last - first}, whole.owner, s});
          open.section = s;
          filled += static_cast<std::size_t>(last - first) * row_bytes;
        }
        if (filled >= bytes) close();
      }
    }
  }
  close();
  return buckets;
}

Message make_message(Runtime& runtime, const Bucket& bucket, int ranks, Dtype dtype,
                     const std::function<std::size_t(const RowShare&)>& bytes_of) {
  Message message;
  message.borders.assign(static_cast<std::size_t>(ranks) + 1, 0);
  std::vector<std::int64_t> at = {0};
  for (const Bucket::Rows& rows : bucket.rows) {
    at.push_back(at.back() + static_cast<std::int64_t>(bytes_of(rows.share) / size_of(dtype)));
    message.borders[static_cast<std::size_t>(rows.owner) + 1] = at.back();
  }
  for (std::size_t r = 1; r < message.borders.size(); ++r)
    message.borders[r] = std::max(message.borders[r], message.borders[r - 1]);
  message.memory = Tensor(runtime, {at.back()}, dtype);
  for (std::size_t i = 0; i + 1 < at.size(); ++i)
    message.rows.push_back(message.memory.slice(at[i], at[i + 1] - at[i]));
  return message;
}

}  // namespace lexring
