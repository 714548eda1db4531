# fusednn_options: what every target is compiled with. fusednn_join: files that are compiled as one.

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

option(FUSEDNN_JOIN "Compile files that are alike as one" ON)

# Sets `name` to a file that includes all that follow; to these where clang-tidy shall see each alone.
function(fusednn_join name)
  set(${name} ${ARGN} PARENT_SCOPE)
  if(FUSEDNN_JOIN)
    set(joined)
    foreach(file IN LISTS ARGN)
      get_filename_component(path ${file} ABSOLUTE)
      get_filename_component(extension ${file} LAST_EXT)
      string(APPEND joined "#include \"${path}\"\n")
    endforeach()
    set(unit ${CMAKE_CURRENT_BINARY_DIR}/joined/${name}${extension})
    file(CONFIGURE OUTPUT ${unit} CONTENT "${joined}" @ONLY)
    set(${name} ${unit} PARENT_SCOPE)
  endif()
endfunction()
