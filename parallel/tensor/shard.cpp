#include "parallel/tensor/shard.h"

namespace lexring {

ParameterPart part_of(NamedShape whole, const Cut& cut, const Communicator& group) {
  require(cut.shares >= 1 && group.size() % cut.shares == 0 && cut.dim < whole.shape.size(),
          "{} {} cannot be cut along dimension {} into {} parts for the {} ranks of group {}", whole.name,
          to_string(whole.shape), cut.dim, cut.shares, group.size(), group.name());
  ParameterPart part(std::move(whole));
  part.copies = group.size() / cut.shares;
  part.copy = group.rank() % part.copies;
  const auto share = static_cast<std::size_t>(group.rank() / part.copies);
  const auto borders = even_borders(part.full_shape[cut.dim], cut.shares);
  part.offset[cut.dim] = borders[share];
  part.shape[cut.dim] = borders[share + 1] - borders[share];
  return part;
}

}  // namespace lexring
