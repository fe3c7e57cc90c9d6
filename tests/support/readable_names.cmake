# cmake -DCTEST=... -DBUILD=DIR -P readable_names.cmake: fails where an entry's name shows a parameter's bytes or its
# number alone. A suite of parameterised tests names its parameters by the last argument of INSTANTIATE_TEST_SUITE_P.
execute_process(COMMAND ${CTEST} -N WORKING_DIRECTORY ${BUILD} OUTPUT_VARIABLE list COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "Test +#[0-9]+: [^\n]*(-byte object|/[0-9]+\n)" unreadable "${list}")
if(unreadable)
  list(JOIN unreadable "\n" unreadable)
  message(FATAL_ERROR "these names tell nobody what is tested:\n${unreadable}")
endif()
