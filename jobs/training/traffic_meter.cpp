#include "jobs/training/traffic_meter.h"

namespace lexring {

TrafficMeter::TrafficMeter(const Context& context) : context_(&context) {
  for (Communicator* group : context_->groups()) group->reset_records();
}

/// A group may serve two purposes: with dp = 1 the ring sums the gradients, too.
std::string TrafficMeter::purpose(const Communicator& group, const std::string& operation) const {
  if (&group == &context_->axis(Axis::tp)) return "tp";
  if (operation == "exchange" && &group == &context_->ring()) return "ring";
  if (operation == "exchange" && &group == &context_->ulysses()) return "ulysses";
  return &group == &context_->replicas() ? "gradients" : "other";
}

std::vector<AxisTraffic> TrafficMeter::read() const {
  std::vector<AxisTraffic> all;
  for (const char* name : {"ring", "ulysses", "tp", "gradients", "other"}) {
    AxisTraffic sum;
    sum.name = name;
    for (Communicator* group : context_->groups()) {
      bool concerned = false;
      for (const CommRecord& record : group->records()) {
        if (purpose(*group, record.operation) != name) continue;
        concerned = true;
        sum.calls += static_cast<double>(record.calls);
        sum.bytes += static_cast<double>(record.bytes);
        sum.waited += record.exposed;
      }
      if (concerned) sum.busy += group->busy();
    }
    all.push_back(std::move(sum));
  }
  return all;
}

}  // namespace lexring
