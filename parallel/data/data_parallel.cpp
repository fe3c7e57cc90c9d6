#include "parallel/data/data_parallel.h"

#include <array>
#include <cmath>

#include "parallel/data/gather_values.h"

namespace lexring {
namespace {

std::vector<RowShare> own_shares(const std::vector<Parameter>& parameters, const Communicator& replicas) {
  return share_rows(parameters, replicas.size())[static_cast<std::size_t>(replicas.rank())];
}

/// What a sharded optimizer works on: storage of its own for what the model does not hold.
std::vector<Parameter> own_rows(Backend& backend, const std::vector<Parameter>& parameters,
                                const std::vector<RowShare>& shares, Shard shard) {
  const MemoryPurpose purpose("own rows of a sharded optimizer");
  std::vector<Parameter> all;
  for (const RowShare& share : shares) {
    Parameter rows = rows_of(parameters[share.parameter], share);
    const Shape shape = rows.gradient.shape();
    const Dtype master = rows.gradient.dtype();
    if (!rows.value.defined()) rows.value = Tensor(backend.runtime(), shape, master);
    if (shard == Shard::gradients) rows.gradient = Tensor(backend.runtime(), shape, master);
    all.push_back(std::move(rows));
  }
  return all;
}

}  // namespace

Held held_by_model(Shard shard, int replicas) {
  if (replicas == 1 || shard == Shard::none) return Held::all;
  return shard == Shard::state ? Held::gradients : Held::section;
}

DataParallel::DataParallel(const Context& context, Backend& backend, const std::vector<Parameter>& parameters,
                           const Tensor& gradients, const Sections& sections, const AdamWHyper& hyper, Shard shard,
                           std::size_t message_bytes)
    : context_(&context),
      backend_(&backend),
      parameters_(&parameters),
      gradients_(gradients),
      shard_(context.replicas().size() > 1 ? shard : Shard::none),
      shares_(own_shares(parameters, context.replicas())),
      optimizer_(backend, shard_ == Shard::none ? parameters : own_rows(backend, parameters, shares_, shard_), hyper),
      replicated_(context.axis(Axis::tp), parameters) {
  Communicator& replicas = context.replicas();
  if (replicas.size() == 1) return;
  if (shard_ == Shard::none) {
    reduction_ =
        make_all_reduction(backend, replicas, gradients, cut_gradients(gradients, parameters, sections, message_bytes));
    return;
  }
  buckets_ = make_buckets(parameters, sections, share_rows(parameters, replicas.size()), message_bytes);
  std::vector<OwnRows> own(parameters.size());
  for (std::size_t i = 0; i < shares_.size(); ++i)
    own[shares_[i].parameter] = {shares_[i].first, optimizer_.parameters()[i].gradient};
  const AfterSending after = shard_ == Shard::gradients ? AfterSending::clear : AfterSending::keep;
  reduction_ = make_scattering_reduction(backend, replicas, parameters, buckets_, std::move(own), after);
}

/// Rows that this rank owns, with their values, gradients and compute copies wherever they are held.
Parameter DataParallel::own(std::size_t share) const {
  return shard_ == Shard::none ? rows_of((*parameters_)[shares_[share].parameter], shares_[share])
                               : optimizer_.parameters()[share];
}

std::vector<Parameter> DataParallel::masters() const {
  std::vector<Parameter> rows;
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    if (!(*parameters_)[shares_[i].parameter].value.defined()) rows.push_back(own(i));
  }
  return rows;
}

void DataParallel::begin_step() {
  backend_->fill(gradients_, 0.0);
  if (shard_ != Shard::gradients) return;
  for (const Parameter& rows : optimizer_.parameters()) backend_->fill(rows.gradient, 0.0);
}

SectionReached DataParallel::reached(MicroBatch which) {
  if (!reduction_ || (which == MicroBatch::more_to_come && shard_ != Shard::gradients)) return {};
  return [this](std::size_t section) { reduction_->reached(section); };
}

double DataParallel::finish_gradients() {
  if (reduction_) reduction_->finish();
  replicated_.sum(optimizer_.parameters());
  // Each rank counts what it owns: a P-th of the work, and every element once.
  std::vector<Tensor> counted;
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    const Parameter rows = own(i);
    if (rows.copy == 0) counted.push_back(rows.gradient);  // else another rank of tp counts it
  }
  std::array<double, 1> sum = {backend_->sum_of_squares(counted)};
  context_->world().all_reduce(std::span<double>(sum), Reduce::sum);
  return std::sqrt(sum[0]);
}

void DataParallel::step(double lr, double gradient_scale) {
  optimizer_.step(lr, gradient_scale);
  if (shard_ != Shard::none) gather_values(*backend_, context_->replicas(), *parameters_, buckets_);
}

std::vector<DataParallel::Owned> DataParallel::owned() {
  std::vector<Owned> all;
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    const RowShare& share = shares_[i];
    Parameter rows = own(i);
    if (rows.copy > 0) continue;               // another rank of tp writes it
    const bool whole = shard_ == Shard::none;  // the optimizer keeps more than is owned
    const Moments& kept = optimizer_.moments()[whole ? share.parameter : i];
    const std::int64_t first = whole ? share.first : 0;
    all.push_back({std::move(rows), {kept.first.slice(first, share.count), kept.second.slice(first, share.count)}});
  }
  return all;
}

}  // namespace lexring
