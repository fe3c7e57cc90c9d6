#include "framework/device/trace.h"

#include <nvtx3/nvToolsExt.h>

namespace lexring {

TraceRange::TraceRange(const char* name) { nvtxRangePushA(name); }
TraceRange::~TraceRange() { nvtxRangePop(); }

}  // namespace lexring
