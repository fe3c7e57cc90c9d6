/// Not a test of its own: rank 1 meets an error while the others wait for it, as main() handles it.
#include <cstdio>

#include "framework/base/error.h"
#include "parallel/comm/host/mpi.h"

int main(int argc, char** argv) {
  try {
    lexring::MpiSession session(argc, argv);
    try {
      if (session.world()->rank() == 1) lexring::fail("the disk of rank 1 is full");
      session.world()->barrier();
    } catch (const lexring::Error& error) {
      std::fprintf(stderr, "rank %d: %s\n", session.world()->rank(), error.what());
      session.end_all(3);
    }
  } catch (const lexring::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
