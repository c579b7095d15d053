/*
 * ane_bridge.h: compile and run MIL programs on a Neural Engine, or on its emulator.
 *
 * Printed from the list of functions in crates/bridge/src/abi.rs; do not edit.
 *
 * Any thread may call any function at any time. A function that fails returns what its comment
 * says and leaves a message for ane_bridge_last_error. Handles may be null, freed, or invented:
 * such a call fails and does nothing else. So does every call in a process that was forked after a
 * device was opened. Pointers to data must be null or point to as many bytes as the call says; that
 * cannot be checked.
 *
 * Inputs and outputs are numbered in alphabetical order of their names in the program, which is the
 * order in which the engine binds them. Their elements are in the type that the program declares,
 * for instance 2 bytes for fp16, row by row without gaps.
 */
#ifndef ANE_BRIDGE_H
#define ANE_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A compiled program with a surface for each port. Not a pointer to anything: a number. */
typedef struct ANEKernelHandle ANEKernelHandle;

/* An open device. Not a pointer to anything: a number. */
typedef struct ANEDeviceHandle ANEDeviceHandle;

/*
 * Opens the default device, on which ane_bridge_compile and ane_bridge_compile_multi_weights
 * compile: the one named by the environment variable ANE_BRIDGE_DEVICE (see ane_bridge_open),
 * else `auto`. 0, also when it is open already, or -1. The first success sets the compile
 * count to 0.
 */
int ane_bridge_init(void);

/*
 * Compiles a program on the default device. weight_data is the file
 * `@model_path/weights/weight.bin` of the program; null or 0 bytes for none. input_sizes and
 * output_sizes are the bytes of each surface, at least those of its tensor; with a count of 0
 * they are taken from the program. Everything is copied. A handle to give to
 * ane_bridge_free, or null.
 */
ANEKernelHandle *ane_bridge_compile(
    const char *mil_text,
    size_t mil_len,
    const uint8_t *weight_data,
    size_t weight_len,
    int n_inputs,
    const size_t *input_sizes,
    int n_outputs,
    const size_t *output_sizes);

/*
 * As ane_bridge_compile, with n_weights weight files, named as in the program, for instance
 * `@model_path/weights/wq.bin`.
 */
ANEKernelHandle *ane_bridge_compile_multi_weights(
    const char *mil_text,
    size_t mil_len,
    const char *const *weight_names,
    const uint8_t *const *weight_datas,
    const size_t *weight_lens,
    int n_weights,
    int n_inputs,
    const size_t *input_sizes,
    int n_outputs,
    const size_t *output_sizes);

/*
 * Runs the program on what its inputs hold, and returns when it has finished; after a run that
 * is in flight. False if it failed; the outputs are then not to be used.
 */
bool ane_bridge_eval(ANEKernelHandle *kernel_handle);

/*
 * Copies the first bytes of an input from data; what is behind the tensor, in a surface that
 * was asked to be larger, is not kept. False, and nothing is copied, if there are more bytes
 * than the surface has, or part of an element.
 */
bool ane_bridge_write_input(
    ANEKernelHandle *kernel_handle,
    int idx,
    const void *data,
    size_t bytes);

/*
 * Copies the first bytes of an output to data; what is behind the tensor reads as 0. False, and
 * nothing is copied, as in ane_bridge_write_input.
 */
bool ane_bridge_read_output(ANEKernelHandle *kernel_handle, int idx, void *data, size_t bytes);

/* Unloads the program, after a run in flight, and frees its surfaces. Null is allowed. */
void ane_bridge_free(ANEKernelHandle *kernel_handle);

/* Programs compiled since the start or the last reset, on all devices together. */
int ane_bridge_get_compile_count(void);

/* Sets the count to 0. What the machine counts for itself is not changed by it. */
void ane_bridge_reset_compile_count(void);

/*
 * A weight file of one fp16 matrix [rows, cols], to be named with offset 64 in the program.
 * Its length is stored in out_len. Null if it fails; else to be given to
 * ane_bridge_free_blob.
 */
uint8_t *ane_bridge_build_weight_blob(const float *src, int rows, int cols, size_t *out_len);

/* As ane_bridge_build_weight_blob, of the transpose [cols, rows]. */
uint8_t *ane_bridge_build_weight_blob_transposed(
    const float *src,
    int rows,
    int cols,
    size_t *out_len);

/* As ane_bridge_build_weight_blob, of int8 elements. */
uint8_t *ane_bridge_build_weight_blob_int8(const int8_t *src, int rows, int cols, size_t *out_len);

/*
 * As ane_bridge_build_weight_blob_int8, of src divided by one scale for the whole matrix, which
 * is stored in out_scale: the largest magnitude divided by 127.
 */
uint8_t *ane_bridge_build_weight_blob_quantized(
    const float *src,
    int rows,
    int cols,
    float *out_scale,
    size_t *out_len);

/* Frees a weight file or a text that a function of this header returned. Null is allowed. */
void ane_bridge_free_blob(void *blob);

/*
 * Returns the error of this thread's last call, in words; empty if there was none. Frees and closes
 * that succeed leave it as it was. Valid until the thread's next call. Such texts of
 * ane_bridge_init, ane_bridge_compile and ane_bridge_compile_multi_weights are written to standard
 * error, too; with the environment variable ANE_BRIDGE_VERBOSE=1 those of all functions are, with
 * ANE_BRIDGE_VERBOSE=0 none.
 */
const char *ane_bridge_last_error(void);

/* The version of the library, for instance `0.1.0`. */
const char *ane_bridge_version(void);

/*
 * Opens a device of its own:
 * `auto` (the engine where there is a driver for it and it gives the right answers to a program
 * whose answers are known, else the emulator; see ane_bridge_device_warning);
 * `ane`, `in-memory`, `espresso` (the engine);
 * `emulator`, with chip, system, call path and arithmetic (`fast`, `exact` or `f32`) if wanted,
 * for instance `emulator:m1/macos26/in-memory:exact`;
 * `cpu`, without an engine's rules.
 * A handle to give to ane_bridge_close, or null.
 */
ANEDeviceHandle *ane_bridge_open(const char *name);

/* Closes a device. Its kernels go on working until they are freed. Null is allowed. */
void ane_bridge_close(ANEDeviceHandle *device_handle);

/*
 * One line that says which machine a device is (null: the default one). Null if it fails; else
 * to be given to ane_bridge_free_blob.
 */
char *ane_bridge_describe_device(const ANEDeviceHandle *device_handle);

/*
 * Why the emulator computes on a device (null: the default one) that was opened as `auto`,
 * although there is an engine: it failed, gave wrong answers, or did not answer in time. Empty
 * where there is nothing to warn of. Null if it fails; else to be given to
 * ane_bridge_free_blob.
 */
char *ane_bridge_device_warning(const ANEDeviceHandle *device_handle);

/* As ane_bridge_compile_multi_weights, on a device (null: the default one). */
ANEKernelHandle *ane_bridge_compile_on(
    const ANEDeviceHandle *device_handle,
    const char *mil_text,
    size_t mil_len,
    const char *const *weight_names,
    const uint8_t *const *weight_datas,
    const size_t *weight_lens,
    int n_weights,
    int n_inputs,
    const size_t *input_sizes,
    int n_outputs,
    const size_t *output_sizes);

/*
 * The device of a kernel and its ports in order, as a JSON object with `device`, `inputs` and
 * `outputs`; a port has `name`, `dtype`, `shape` and `bytes`. Null if it fails; else to be
 * given to ane_bridge_free_blob.
 */
char *ane_bridge_describe(const ANEKernelHandle *kernel_handle);

/* Number of inputs, or -1. */
int ane_bridge_input_count(const ANEKernelHandle *kernel_handle);

/* Number of outputs, or -1. */
int ane_bridge_output_count(const ANEKernelHandle *kernel_handle);

/* Bytes of an input's surface, or 0 if it fails. */
size_t ane_bridge_input_bytes(const ANEKernelHandle *kernel_handle, int idx);

/* Bytes of an output's surface, or 0 if it fails. */
size_t ane_bridge_output_bytes(const ANEKernelHandle *kernel_handle, int idx);

/* Replaces a whole input of any element type by count floats; fp16 is rounded to nearest even. */
bool ane_bridge_write_input_f32(
    ANEKernelHandle *kernel_handle,
    int idx,
    const float *data,
    size_t count);

/* Copies a whole output of any element type as count floats. */
bool ane_bridge_read_output_f32(
    ANEKernelHandle *kernel_handle,
    int idx,
    float *data,
    size_t count);

/*
 * The memory of an input, to be filled in place; its length is stored in bytes unless that is
 * null. Until ane_bridge_unlock_input, evaluating the kernel and writing the input fail. The
 * memory is gone when the kernel is freed. Null if it fails, also where the device holds
 * elements in another type than the program's (numerics f32 with fp16 ports).
 */
void *ane_bridge_lock_input(ANEKernelHandle *kernel_handle, int idx, size_t *bytes);

/* Ends ane_bridge_lock_input. */
bool ane_bridge_unlock_input(ANEKernelHandle *kernel_handle, int idx);

/* The memory of an output, to be read in place, as ane_bridge_lock_input. */
const void *ane_bridge_lock_output(ANEKernelHandle *kernel_handle, int idx, size_t *bytes);

/* Ends ane_bridge_lock_output. */
bool ane_bridge_unlock_output(ANEKernelHandle *kernel_handle, int idx);

/*
 * Starts a run and returns at once. Runs of one device are carried out in the order in which
 * they were submitted. Until the run has finished, submitting the kernel again fails, and
 * every other function that takes the kernel waits, except ane_bridge_poll.
 */
bool ane_bridge_submit(ANEKernelHandle *kernel_handle);

/*
 * Returns 1 if the last run has finished, 0 if it is in flight, -1 if it failed or there was
 * none.
 */
int ane_bridge_poll(ANEKernelHandle *kernel_handle);

/*
 * Waits until the run in flight has finished, at most timeout_ms milliseconds (for ever if
 * negative). As ane_bridge_poll.
 */
int ane_bridge_wait(ANEKernelHandle *kernel_handle, int timeout_ms);

/* Seconds that the last run took on the device, or a negative number. */
double ane_bridge_run_seconds(ANEKernelHandle *kernel_handle);

/*
 * Holds a program against the rules of the language and of a machine, for instance
 * `m4/macos15/in-memory` (null: this one). A JSON object with `profile`, `legal`, `faults` of the
 * language (`line`, `column`, `context`, `message`, `hint`) and broken `rules` (`id`, `title`,
 * `severity`, `confidence`, `evidence`, `function`, `place`, `name`, `message`, `hint`). Null if
 * it fails; else to be given to ane_bridge_free_blob.
 */
char *ane_bridge_check(const char *profile, const char *mil_text, size_t mil_len);

/*
 * Forecasts how long a program takes on a machine (null: as for ane_bridge_check), from a law
 * fitted to published timings; not confirmed on hardware. A JSON object with `profile`,
 * `confirmed_on_hardware` and `functions`; a function has `function`, `seconds`, `low` and `high`
 * (the ends of the error bar), `bound_by`, `fitted`, `parts` (seconds by cause) and `operations`
 * (`op`, `name`, `seconds`, `flops`, `bytes`, `bound_by`, `notch`). Null if it fails; else to be
 * given to ane_bridge_free_blob.
 */
char *ane_bridge_estimate(const char *profile, const char *mil_text, size_t mil_len);

#ifdef __cplusplus
}
#endif

#endif
