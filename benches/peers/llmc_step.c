// Times training steps of a GPT-2 in llm.c: forward, zero_grad, backward, update (AdamW).
//
//     cc -O3 -march=native -ffast-math -fopenmp -w -ILLMC llmc_step.c -lm -o llmc    (LLMC: a checkout of llm.c)
//     ./llmc DIM LAYERS HEADS VOCAB BATCH SEQ STEPS
//
// Prints, after llm.c's own lines, one JSON object. Run by run.py; useful alone too. llm.c makes a
// model from a checkpoint file only, so one of the wanted geometry is written first, with random
// weights; the time to the first step has that in it.

#define TESTING // leaves llm.c's own main out
#include "train_gpt2.c"

#include <sys/resource.h>

static char checkpoint[4096];

static void remove_checkpoint(void) {
    if (checkpoint[0]) unlink(checkpoint);
    checkpoint[0] = 0;
}

static void fail(const char *what) {
    fprintf(stderr, "llmc_step: %s\n", what);
    exit(1);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

// SplitMix64.
static uint64_t chance(void) {
    static uint64_t state = 1;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// One parameter: 1 for the gains of the norms, 0 for all offsets, else uniform with deviation 0.02.
static float initial(int tensor) {
    switch (tensor) {
    case 2: case 8: case 14:
        return 1;
    case 3: case 5: case 7: case 9: case 11: case 13: case 15:
        return 0;
    default:
        return ((chance() >> 40) * 0x1p-23f - 1) * 0.0346f;
    }
}

// Version 3 of llm.c's format: 256 words of header, then all parameters as float32.
static void write_checkpoint(GPT2Config c) {
    const char *directory = getenv("TMPDIR");
    snprintf(checkpoint, sizeof checkpoint, "%s/llmc-XXXXXX", directory && *directory ? directory : "/tmp");
    int descriptor = mkstemp(checkpoint);
    if (descriptor < 0) {
        checkpoint[0] = 0;
        fail("no temporary file for the checkpoint");
    }
    atexit(remove_checkpoint);
    FILE *file = fdopen(descriptor, "wb");
    if (!file) fail("no temporary file for the checkpoint");
    int header[256] = {20240326, 3, c.max_seq_len, c.vocab_size, c.num_layers, c.num_heads, c.channels, c.padded_vocab_size};
    int good = fwrite(header, sizeof header, 1, file) == 1;
    size_t sizes[NUM_PARAMETER_TENSORS];
    fill_in_parameter_sizes(sizes, c);
    for (int tensor = 0; tensor < NUM_PARAMETER_TENSORS; tensor++) {
        float chunk[4096];
        for (size_t left = sizes[tensor]; left > 0 && good;) {
            size_t n = left < 4096 ? left : 4096;
            for (size_t i = 0; i < n; i++) chunk[i] = initial(tensor);
            good = fwrite(chunk, sizeof *chunk, n, file) == n;
            left -= n;
        }
    }
    if (fclose(file) != 0 || !good) fail("the checkpoint could not be written");
}

int main(int count, char **arguments) {
    double start = seconds();
    if (count != 8) fail("usage: llmc DIM LAYERS HEADS VOCAB BATCH SEQ STEPS");
    int numbers[7];
    for (int i = 0; i < 7; i++) {
        char *end;
        long n = strtol(arguments[i + 1], &end, 10);
        if (*end || n < 1 || n > 1 << 30) fail("every argument is a whole number of at least 1");
        numbers[i] = n;
    }
    int dim = numbers[0], layers = numbers[1], heads = numbers[2], vocab = numbers[3];
    int batch = numbers[4], seq = numbers[5], steps = numbers[6];
    if (dim % heads) fail("DIM must be a multiple of HEADS");
    if ((int64_t)batch * seq * vocab > INT32_MAX) fail("BATCH * SEQ * VOCAB is too large: llm.c counts them in an int");

    write_checkpoint((GPT2Config){
        .max_seq_len = seq, .vocab_size = vocab, .padded_vocab_size = vocab,
        .num_layers = layers, .num_heads = heads, .channels = dim,
    });
    GPT2 model;
    gpt2_build_from_checkpoint(&model, checkpoint);
    remove_checkpoint();

    size_t tokens = (size_t)batch * seq;
    int *inputs = malloc(tokens * sizeof *inputs), *targets = malloc(tokens * sizeof *targets);
    double *ms = malloc(steps * sizeof *ms), first = 0;
    if (!inputs || !targets || !ms) fail("out of memory");
    for (int step = 0; step <= steps; step++) {
        double begin = seconds();
        for (size_t i = 0; i < tokens; i++) {
            inputs[i] = chance() % vocab;
            targets[i] = chance() % vocab;
        }
        gpt2_forward(&model, inputs, targets, batch, seq);
        gpt2_zero_grad(&model);
        gpt2_backward(&model);
        gpt2_update(&model, 1e-4f, 0.9f, 0.999f, 1e-8f, 0.1f, step + 1);
        double end = seconds();
        if (step == 0) first = end - start;
        else ms[step - 1] = (end - begin) * 1e3;
        printf("step %d: loss %.4f\n", step, model.mean_loss);
    }

    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    double peak = usage.ru_maxrss / 1048576.0; // bytes
#else
    double peak = usage.ru_maxrss / 1024.0; // kilobytes
#endif
    printf("{\"ms\": [");
    for (int step = 0; step < steps; step++) printf("%s%.3f", step ? ", " : "", ms[step]);
    printf("], \"first_step_s\": %.3f, \"peak_mb\": %.1f}\n", first, peak);
    gpt2_free(&model);
    free(inputs);
    free(targets);
    free(ms);
    return 0;
}
