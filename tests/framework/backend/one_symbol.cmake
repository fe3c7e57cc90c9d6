# Each object of CPU kernels shows the rest of the program one symbol, who makes its backend: -DNM=... -DOBJECTS=a.o,b.o
string(REPLACE "," ";" objects "${OBJECTS}")
foreach(object IN LISTS objects)
  execute_process(COMMAND ${NM} --defined-only --extern-only ${object}
    OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(STRIP "${symbols}" symbols)
  if(NOT symbols MATCHES "^[0-9a-f]+ T [^\n]*make_[a-z0-9_]+_backendEv$")
    message(FATAL_ERROR "${object} shows more than one symbol, or another; "
      "code with its instructions could run on a processor without:\n${symbols}")
  endif()
endforeach()
