//! Kernels on a device whose runs end when, and how, the test says.

use super::*;
use crate::device::OpenDevice;
use ane::{AneError, Device, Precision};
use mil::{Program, TensorType};
use std::sync::mpsc::{Receiver, Sender, channel};

const TEXT: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1,1,1,16]> x) {
        tensor<fp16, [1,1,1,16]> y = relu(x=x)[name=string("y")];
    } -> (y);
}
"#;

/// How a run ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Well,
    Fail,
    Panic,
}

#[derive(Debug)]
struct Scripted(Mutex<Option<Receiver<End>>>);

#[derive(Debug)]
struct Run {
    ends: Receiver<End>,
    port: [Vec<Port>; 2],
}

impl Device for Scripted {
    fn describe(&self) -> String {
        "scripted".to_owned()
    }

    fn surface(&self, ty: &TensorType, allocation: usize) -> Result<Surface, AneError> {
        Ok(Surface::new(ty, allocation, Precision::Half))
    }

    fn compile(&self, _: &Program, _: &Weights) -> Result<Box<dyn Executable>, AneError> {
        let ty = TensorType::fp16([1, 1, 1, 16]);
        let port = ["x", "y"].map(|name| vec![Port { name: name.to_owned(), ty: ty.clone() }]);
        let ends = self.0.lock().unwrap().take().ok_or(AneError::ResourcesExhausted)?;
        Ok(Box::new(Run { ends, port }))
    }
}

impl Executable for Run {
    fn inputs(&self) -> &[Port] {
        &self.port[0]
    }

    fn outputs(&self) -> &[Port] {
        &self.port[1]
    }

    fn run(&mut self, _: &[&Surface], _: &[&Surface]) -> Result<RunReport, AneError> {
        match self.ends.recv() {
            Ok(End::Well) => Ok(RunReport { seconds: 2.5, hardware_seconds: None }),
            Ok(End::Panic) => panic!("scripted"),
            Ok(End::Fail) | Err(_) => Err(AneError::Timeout),
        }
    }
}

fn kernel() -> (Arc<Kernel>, Sender<End>) {
    let (say, ends) = channel();
    let device = OpenDevice::of(Box::new(Scripted(Mutex::new(Some(ends)))));
    (Arc::new(Kernel::compile(device, TEXT, &Weights::new(), None, None).unwrap()), say)
}

#[test]
fn a_run_in_flight_is_seen_and_waited_for() {
    let (kernel, say) = kernel();
    assert_eq!(kernel.wait(None), Err(BridgeError::NothingSubmitted));
    kernel.submit().unwrap();
    assert_eq!(kernel.wait(Some(Duration::ZERO)), Ok(false));
    assert_eq!(kernel.wait(Some(Duration::from_millis(1))), Ok(false));
    assert_eq!(kernel.submit(), Err(BridgeError::InFlight));
    let reader = Arc::clone(&kernel);
    let reading = std::thread::spawn(move || reader.read(Side::Output, 0, &mut [0; 2]));
    say.send(End::Well).unwrap();
    assert_eq!(kernel.wait(None), Ok(true));
    assert_eq!(kernel.seconds(), Ok(2.5));
    assert_eq!(reading.join().unwrap(), Ok(()));
}

#[test]
fn a_run_that_fails_is_an_error_and_the_next_may_succeed() {
    let (kernel, say) = kernel();
    say.send(End::Fail).unwrap();
    kernel.submit().unwrap();
    for _ in 0..2 {
        assert_eq!(kernel.wait(None), Err(BridgeError::Ane(AneError::Timeout)));
    }
    say.send(End::Fail).unwrap();
    assert_eq!(kernel.eval(), Err(BridgeError::Ane(AneError::Timeout)));
    say.send(End::Well).unwrap();
    assert_eq!(kernel.eval(), Ok(()));
    assert_eq!(kernel.wait(None), Ok(true));
}

#[test]
fn a_panic_ends_the_kernel_only() {
    let (kernel, say) = kernel();
    say.send(End::Panic).unwrap();
    kernel.submit().unwrap();
    let defect = BridgeError::Panic("scripted".to_owned());
    assert_eq!(kernel.wait(None), Err(defect.clone()));
    assert_eq!(kernel.eval(), Err(defect.clone()));
    assert_eq!(kernel.submit(), Err(defect));
    assert_eq!(kernel.write(0, &[0; 32]), Ok(()));
    kernel.release();
    assert_eq!(kernel.eval(), Err(BridgeError::Freed));
}

#[test]
fn a_kernel_released_in_flight_ends_after_its_run() {
    let (kernel, say) = kernel();
    kernel.submit().unwrap();
    let other = Arc::clone(&kernel);
    let releasing = std::thread::spawn(move || other.release());
    say.send(End::Well).unwrap();
    releasing.join().unwrap();
    assert_eq!(kernel.eval(), Err(BridgeError::Freed));
    assert!(say.send(End::Well).is_err(), "the program is gone");
}
