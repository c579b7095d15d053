# Homebrew formula, kept here until there is a release to point it at. Until then it builds `head`, from
# a tap of one's own, since Homebrew takes no formula from a path:
#
#   brew tap-new local/anegpt
#   cp packaging/homebrew/anegpt.rb "$(brew --repository local/anegpt)/Formula/"
#   brew install --HEAD local/anegpt/anegpt
#
# A release needs `url` and `sha256` of its source archive beside `head`.
class Anegpt < Formula
  desc "Train, evaluate and talk to GPT models on Apple's Neural Engine"
  homepage "https://github.com/anegpt/anegpt"
  license any_of: ["MIT", "Apache-2.0"]
  head "https://github.com/anegpt/anegpt.git", branch: "main"

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args(path: "crates/anegpt")
    system "cargo", "build", "--release", "--locked", "-p", "bridge", "--lib"
    lib.install "target/release/#{shared_library("libane_bridge")}", "target/release/libane_bridge.a"
    include.install "crates/bridge/include/ane_bridge.h"
  end

  test do
    (testpath/"program.mil").write <<~MIL
      program(1.3)
      {
          func main<ios18>(tensor<fp16, [1, 4, 1, 16]> x) {
              tensor<fp16, [1, 4, 1, 16]> y = relu(x=x)[name=string("y")];
          } -> (y);
      }
    MIL
    assert_match "well formed", shell_output("#{bin}/anegpt mil check program.mil --chip m4")

    (testpath/"test.c").write <<~C
      #include <ane_bridge.h>
      #include <stdio.h>
      int main(void) {
        if (ane_bridge_init() != 0) return 1;
        puts(ane_bridge_version());
        return 0;
      }
    C
    system ENV.cc, "test.c", "-I#{include}", "-L#{lib}", "-Wl,-rpath,#{lib}", "-lane_bridge", "-o", "test"
    assert_match version.to_s.start_with?("HEAD") ? "." : version.to_s, shell_output("./test")
  end
end
