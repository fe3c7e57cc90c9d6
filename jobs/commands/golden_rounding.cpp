#include "jobs/commands/golden_rounding.h"

#include <algorithm>
#include <memory>
#include <span>

#include "framework/base/random.h"

namespace lexring {

std::string GoldenWeights::origin() const { return fmt::format("{}: {}", file_.path().string(), group_); }

std::optional<TensorSource::Info> GoldenWeights::info(const std::string& name) const {
  if (!file_.exists(group_ + "/" + name)) return std::nullopt;
  return Info{Dtype::f64, file_.shape(group_ + "/" + name)};
}

void GoldenWeights::do_read(const std::string& name, const Shape& offset, const Shape& shape,
                            std::span<std::byte> out) const {
  std::vector<double> values(out.size() / sizeof(double));
  file_.read(group_ + "/" + name, H5Type::f64, offset, shape, std::as_writable_bytes(std::span(values)));
  const std::uint64_t stream = stream_id(name);
  for (std::size_t i = 0; i < values.size() && rounding_ > 0; ++i) {
    const double uniform = 0x1p-63 * static_cast<double>(random_bits(draw_, stream, i)) - 1;
    values[i] *= 1 + rounding_ * uniform;
  }
  std::ranges::copy(std::as_bytes(std::span(values)), out.begin());
}

GoldenMoves golden_moves(const Hdf5File& file, const std::string& name, const ModelConfig& config,
                         const ModelBatch& batch, Precision precision) {
  constexpr std::uint64_t draws = 16;
  GoldenMoves moves;
  if (precision == Precision::fp64) return moves;
  const double rounding = 8 * (precision == Precision::bf16 ? 0x1p-9 : 0x1p-24);
  const double exactly = golden_tolerance(Precision::fp64).gradient;
  const Context alone;
  const std::unique_ptr<Backend> exact = make_reference_backend();
  std::vector<std::string> others;  // numbers of the case that are not those of its weights
  for (std::uint64_t draw = 0; draw <= draws; ++draw) {
    Replica replica({.model = config, .runtime = {.precision = Precision::fp64}, .optimizer = golden_adamw}, alone,
                    *exact);
    replica.load_weights(GoldenWeights(file, name, draw > 0 ? rounding : 0, draw));
    compare_case(replica, file, name, batch, alone.world(), golden_tolerance(precision),
                 [&](const GoldenDifference& moved) {
                   double& most = moves[moved.what];
                   most = std::max(most, moved.difference);
                   if (draw == 0 && !(moved.difference <= exactly * moved.scale)) others.push_back(moved.what);
                 });
  }
  for (const std::string& what : others) moves.erase(what);
  return moves;
}

}  // namespace lexring
