# fusednn_options: what every target is compiled with.

add_library(fusednn_options INTERFACE)
target_include_directories(fusednn_options INTERFACE ${PROJECT_SOURCE_DIR}/csrc ${PROJECT_SOURCE_DIR}/csrc/include)
target_compile_options(
  fusednn_options
  INTERFACE -Wall
            -Wextra
            -Wpedantic
            -Wshadow
            -Wno-psabi # vectors wider than the baseline's registers only pass between inlined functions
            # Bits must not depend on the compiler's choices: one rounding per operation. The other two let square
            # roots and comparisons vectorise and change no result.
            -ffp-contract=off
            -fno-math-errno
            -fno-trapping-math
)
if(FUSEDNN_WERROR)
  target_compile_options(fusednn_options INTERFACE -Werror)
endif()
if(FUSEDNN_SANITIZE)
  target_compile_options(
    fusednn_options INTERFACE -fsanitize=${FUSEDNN_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer
  )
  target_link_options(fusednn_options INTERFACE -fsanitize=${FUSEDNN_SANITIZE})
endif()
