/// What we ask of Open MPI alone; other MPI libraries hear nothing of it. Whoever sets the same variables otherwise is
/// heard.
#pragma once

namespace lexring {

/// Before MPI_Init: settings that suit us; `launched`: by a launcher. Throws Error where one did and there is no room
/// for Open MPI's files.
void prepare_open_mpi(bool launched);
/// Before MPI_Abort, when what is wrong has been said: Open MPI's nine lines on what MPI_Abort does would bury it.
void quiet_open_mpi_abort();

}  // namespace lexring
