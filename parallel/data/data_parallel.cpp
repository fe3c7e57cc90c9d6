#include "parallel/data/data_parallel.h"

#include <array>
#include <cmath>

#include "parallel/data/gather_values.h"

namespace lexring {
namespace {

std::vector<RowShare> own_shares(const std::vector<Parameter>& parameters, const Communicator& replicas) {
  return share_rows(parameters, replicas.size())[static_cast<std::size_t>(replicas.rank())];
}

std::vector<Parameter> rows_of(const std::vector<Parameter>& parameters, const std::vector<RowShare>& shares) {
  std::vector<Parameter> rows;
  for (const RowShare& share : shares) rows.push_back(rows_of(parameters[share.parameter], share));
  return rows;
}

}  // namespace

DataParallel::DataParallel(const Context& context, Backend& backend, const std::vector<Parameter>& parameters, const Tensor& gradients,
                           const Sections& sections, const AdamWHyper& hyper, Shard shard, std::size_t message_bytes)
    : context_(&context),
      backend_(&backend),
      parameters_(&parameters),
      gradients_(gradients),
      shard_(context.replicas().size() > 1 ? shard : Shard::none),
      shares_(own_shares(parameters, context.replicas())),
      optimizer_(backend, shard_ == Shard::none ? parameters : rows_of(parameters, shares_), hyper),
      replicated_(context.axis(Axis::tp), parameters) {
  Communicator& replicas = context.replicas();
  if (replicas.size() == 1) return;
  if (shard_ == Shard::none) {
    reduction_ = make_all_reduction(backend, replicas, gradients, cut_gradients(gradients, parameters, sections, message_bytes));
    return;
  }
  buckets_ = make_buckets(parameters, sections, share_rows(parameters, replicas.size()), message_bytes);
  std::vector<OwnRows> own(parameters.size());
  for (std::size_t i = 0; i < shares_.size(); ++i) own[shares_[i].parameter] = {shares_[i].first, optimizer_.parameters()[i].gradient};
  reduction_ = make_scattering_reduction(backend, replicas, parameters, buckets_, std::move(own), AfterSending::keep);
}

void DataParallel::begin_step() { backend_->fill(gradients_, 0.0); }

SectionReached DataParallel::reached(MicroBatch which) {
  if (!reduction_ || which == MicroBatch::more_to_come) return {};
  return [this](std::size_t section) { reduction_->reached(section); };
}

double DataParallel::finish_gradients() {
  if (reduction_) reduction_->finish();
  replicated_.sum(optimizer_.parameters());
  // Each rank counts what it owns: a P-th of the work, and every element once.
  std::array<double, 1> sum = {0};
  for (const RowShare& share : shares_) {
    const Parameter& parameter = (*parameters_)[share.parameter];
    if (parameter.copy > 0) continue;  // another rank of tp counts it
    sum[0] += backend_->sum_of_squares(parameter.gradient.slice(share.first, share.count));
  }
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
    if ((*parameters_)[share.parameter].copy > 0) continue;  // another rank of tp writes it
    const bool whole = shard_ == Shard::none;                // the optimizer keeps more than is owned
    const Moments& kept = optimizer_.moments()[whole ? share.parameter : i];
    const std::int64_t first = whole ? share.first : 0;
    all.push_back(
        {rows_of((*parameters_)[share.parameter], share), {kept.first.slice(first, share.count), kept.second.slice(first, share.count)}});
  }
  return all;
}

}  // namespace lexring
