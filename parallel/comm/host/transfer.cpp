#include "parallel/comm/host/transfer.h"

#include <algorithm>

namespace lexring {
namespace {

// A part goes in messages of this size and one that is shorter, perhaps empty. So ranks that disagree about a part's
// size disagree about the size of a message that both of them know of, and counts fit an int.
constexpr std::size_t longest_message = std::size_t{1} << 30;

constexpr int announcement_tag = 0;
constexpr int numbered_calls = 32767 / Transfer::most_stages;  // the least upper bound of tags that MPI promises

}  // namespace

int Transfer::tag() const {
  if (kind_ == Kind::announcement) return announcement_tag;
  const auto number = static_cast<int>(call_.number % static_cast<std::uint64_t>(numbered_calls));
  return 1 + number * most_stages + static_cast<int>(next_stage_ - 1);
}

void Transfer::send(int to, std::span<const std::byte> bytes) {
  if (kind_ == Kind::payload) group_->ledger->sent(call_, bytes.size());
  for (std::size_t first = 0; first <= bytes.size(); first += longest_message) {
    const auto message = bytes.subspan(first, std::min(longest_message, bytes.size() - first));
    MPI_Request request = MPI_REQUEST_NULL;
    LEXRING_MPI_CALL(
        MPI_Isend(message.data(), static_cast<int>(message.size()), MPI_BYTE, to, tag(), group_->comm, &request));
    carrier_->posted(request, {shared_from_this(), MessageCarrier::Direction::send, to, message.size(), 0});
  }
}

void Transfer::receive(int from, std::span<std::byte> bytes, std::size_t id) {
  for (std::size_t first = 0; first <= bytes.size(); first += longest_message) {
    const auto message = bytes.subspan(first, std::min(longest_message, bytes.size() - first));
    MPI_Request request = MPI_REQUEST_NULL;
    LEXRING_MPI_CALL(
        MPI_Irecv(message.data(), static_cast<int>(message.size()), MPI_BYTE, from, tag(), group_->comm, &request));
    carrier_->posted(request, {shared_from_this(), MessageCarrier::Direction::receive, from, message.size(), id});
  }
}

void Transfer::until(std::function<bool()> passed) { carrier_->gate({shared_from_this(), std::move(passed)}); }

void ExchangeStage::begin(Transfer& transfer) {
  const int rank = transfer.group().rank;
  for (const Incoming& part : incoming_) {
    if (part.from != rank) transfer.receive(part.from, part.bytes);
  }
  for (const Outgoing& part : outgoing_) {
    if (part.to != rank) transfer.send(part.to, part.bytes);
  }
}

std::span<std::byte> slice(std::span<std::byte> values, std::size_t element, const std::vector<std::int64_t>& borders,
                           int rank) {
  const auto r = static_cast<std::size_t>(rank);
  return values.subspan(static_cast<std::size_t>(borders[r]) * element,
                        static_cast<std::size_t>(borders[r + 1] - borders[r]) * element);
}

std::unique_ptr<Stage> gather_stage(const MpiGroup& group, std::span<std::byte> values, std::size_t element,
                                    const std::vector<std::int64_t>& borders) {
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (int k = 1; k < group.size; ++k) {  // everybody begins with another rank
    const int to = (group.rank + k) % group.size, from = (group.rank + group.size - k) % group.size;
    outgoing.push_back({to, slice(values, element, borders, group.rank)});
    incoming.push_back({from, slice(values, element, borders, from)});
  }
  return std::make_unique<ExchangeStage>(std::move(outgoing), std::move(incoming));
}

}  // namespace lexring
