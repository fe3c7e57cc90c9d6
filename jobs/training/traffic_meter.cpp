#include "jobs/training/traffic_meter.h"

#include <algorithm>

namespace lexring {

TrafficMeter::TrafficMeter(const Context& context) : context_(&context) {
  for (Communicator* group : groups()) group->reset_records();
}

std::vector<Communicator*> TrafficMeter::groups() const {
  std::vector<Communicator*> groups;
  for (Communicator* group : {&context_->ring(), &context_->ulysses(), &context_->axis(Axis::tp), &context_->replicas(),
                              &context_->axis(Axis::dp), &context_->axis(Axis::cp), &context_->world()}) {
    if (group->size() > 1 && std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  }
  return groups;
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
    for (Communicator* group : groups()) {
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
