# cmake -DCOMMAND=... -DMESSAGE=REGEX [-DNEVER=REGEX] [-DSECONDS=100] -P expect_failure.cmake: passes when COMMAND (a
# list) ends within SECONDS, with a non-zero status, and its output matches MESSAGE, and not NEVER.
if(NOT SECONDS)
  set(SECONDS 100) # a busy machine's seconds
endif()
execute_process(COMMAND ${COMMAND} RESULT_VARIABLE status
  OUTPUT_VARIABLE output ERROR_VARIABLE output TIMEOUT ${SECONDS})
message("${output}")
if(status EQUAL 0)
  message(FATAL_ERROR "expected a failure, and it succeeded")
elseif(NOT status MATCHES "^[0-9]+$")
  message(FATAL_ERROR "expected an exit status within ${SECONDS} seconds: ${status}")
elseif(NOT output MATCHES "${MESSAGE}")
  message(FATAL_ERROR "the output does not say: ${MESSAGE}")
elseif(NEVER AND output MATCHES "${NEVER}")
  message(FATAL_ERROR "the output says: ${NEVER}")
endif()
