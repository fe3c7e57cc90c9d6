#include "framework/device/trace.h"

namespace lexring {

TraceRange::TraceRange(const char* /*name*/) {}
TraceRange::~TraceRange() = default;

}  // namespace lexring
