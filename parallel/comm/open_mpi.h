/// What we ask of Open MPI alone; other MPI libraries hear nothing of it. Whoever sets the same variables otherwise is heard.
#pragma once

namespace lexring {

/// Before MPI_Init: settings that suit us, and one more sentence where Open MPI ends the process because it cannot start.
void prepare_open_mpi();
/// After MPI_Init: it has started.
void open_mpi_started();
/// Before MPI_Abort, when what is wrong has been said: Open MPI's nine lines on what MPI_Abort does would bury it.
void quiet_open_mpi_abort();

}  // namespace lexring
